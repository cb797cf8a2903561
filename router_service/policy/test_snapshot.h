// A small registry for tests of the policy: a coder, a chat model, a lawyer, a
// pirate over the chat model, and a statistician without samples.
#ifndef CONCLAVE_ROUTER_SERVICE_POLICY_TEST_SNAPSHOT_H_
#define CONCLAVE_ROUTER_SERVICE_POLICY_TEST_SNAPSHOT_H_

#include <memory>
#include <string>
#include <vector>

#include "registry/client.h"

namespace conclave::router {

inline registry::ExpertSpec Expert(const std::string& name,
                                   std::vector<std::string> categories,
                                   const std::vector<std::string>& texts) {
  registry::ExpertSpec spec;
  spec.name = name;
  spec.version = 1;
  spec.model = name + "-model";
  spec.categories = std::move(categories);
  for (const std::string& text : texts) spec.samples.push_back({text, ""});
  return spec;
}

inline void Put(registry::Snapshot* snapshot, registry::ExpertSpec spec) {
  std::string name = spec.name;
  snapshot->experts[name] =
      std::make_shared<const registry::ExpertSpec>(std::move(spec));
  ++snapshot->revision;
}

inline registry::Snapshot TestSnapshot() {
  registry::Snapshot snapshot;
  Put(&snapshot,
      Expert("coder", {"code"},
             {"write a python function that reverses a string",
              "reverse a linked list in rust",
              "why does my c++ program crash with a segmentation fault",
              "fix this javascript error: undefined is not a function",
              "implement binary search in go",
              "explain what this regular expression matches",
              "write a unit test for this class",
              "how do i merge two branches in git",
              "sql query that counts orders per customer",
              "refactor this loop into a list comprehension",
              "what is the difference between a mutex and a semaphore",
              "parse a json file in java"}));
  Put(&snapshot,
      Expert("chat", {"general"},
             {"hello, how are you today", "tell me a joke",
              "what should i cook for dinner tonight",
              "recommend a movie for a rainy evening",
              "i feel a bit sad, can we talk", "what is the capital of france",
              "plan a weekend trip to the mountains",
              "write a birthday message for my sister",
              "how far away is the moon", "good morning, any plans for the day",
              "what is your favourite colour", "suggest a name for my cat"}));
  Put(&snapshot, Expert("lawyer", {"law"},
                        {"is a verbal contract binding",
                         "my landlord keeps the deposit, what are my rights",
                         "what is the statute of limitations for fraud",
                         "draft a clause on liability for a contract",
                         "can my employer dismiss me without notice",
                         "how do i contest a will in court",
                         "what does indemnify mean in this agreement",
                         "do i need a lawyer for a small claims lawsuit"}));
  registry::ExpertSpec pirate =
      Expert("pirate", {"roleplay"},
             {"pretend you are a pirate and greet me",
              "act as a wizard who guards a bridge",
              "you are a dragon, describe your treasure",
              "play the role of a detective in a noir story",
              "speak like a medieval knight",
              "let us roleplay a space captain and an alien"});
  pirate.model.clear();
  pirate.base = "chat";
  pirate.prompt = "You are a pirate.";
  Put(&snapshot, pirate);
  Put(&snapshot, Expert("stats", {"statistics"}, {}));
  snapshot.aliases["fast"] = {.expert = "chat", .version = 1};
  snapshot.models["coder-model"].name = "coder-model";
  snapshot.models["idle-model"].name = "idle-model";
  return snapshot;
}

}  // namespace conclave::router

#endif  // CONCLAVE_ROUTER_SERVICE_POLICY_TEST_SNAPSHOT_H_
