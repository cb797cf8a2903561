// conclave expert add|list|show|drain|rm
#include <absl/time/clock.h>
#include <CLI/CLI.hpp>
#include <cstdio>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>

#include "base/names.h"
#include "cli/commands.h"
#include "cli/connection.h"
#include "cli/samples.h"
#include "cli/terminal.h"
#include "cli/worker_memory.h"

namespace conclave::cli {
namespace {

struct Options {
  ConnectionOptions connection;
  registry::ExpertSpec spec;
  std::string prompt_file;
  std::string samples_file;
  bool json = false;
};

absl::Time Soon() { return absl::Now() + absl::Seconds(30); }

std::string_view StateName(registry::ExpertState state) {
  switch (state) {
    case registry::ExpertState::kJoining:
      return "joining";
    case registry::ExpertState::kServing:
      return "serving";
    case registry::ExpertState::kDraining:
      return "draining";
    case registry::ExpertState::kGone:
      return "gone";
  }
  return "unknown";
}

// "model smollm2", "endpoint http://...", "prompt over chat".
std::string Source(const registry::ExpertSpec& expert) {
  if (!expert.model.empty()) return "model " + expert.model;
  if (!expert.endpoint.url.empty()) return "endpoint " + expert.endpoint.url;
  return "prompt over " + expert.base;
}

std::string Join(const std::vector<std::string>& parts) {
  std::string text;
  for (const std::string& part : parts) {
    if (!text.empty()) text += ",";
    text += part;
  }
  return text;
}

nlohmann::ordered_json ToJson(const registry::ExpertSpec& expert) {
  nlohmann::ordered_json json = {
      {"name", expert.name},
      {"state", std::string(StateName(expert.state))},
      {"version", expert.version}};
  if (!expert.model.empty()) json["model"] = expert.model;
  if (!expert.endpoint.url.empty()) {
    json["endpoint"] = expert.endpoint.url;
    json["remote_model"] = expert.endpoint.remote_model;
  }
  if (!expert.base.empty()) {
    json["base"] = expert.base;
    json["prompt"] = expert.prompt;
  }
  json["categories"] = expert.categories;
  json["samples"] = expert.samples.size();
  json["quality"] = expert.quality;
  json["cost"] = expert.cost;
  if (!expert.worker.empty()) json["worker"] = expert.worker;
  json["created_unix_ms"] = expert.created_unix_ms;
  return json;
}

void Print(const registry::ExpertSpec& expert, const char* verb, bool json) {
  if (json) {
    std::printf("%s\n", ToJson(expert).dump().c_str());
  } else {
    std::printf("%s %s: %s, categories %s, %zu samples\n", verb,
                expert.name.c_str(), Source(expert).c_str(),
                Join(expert.categories).c_str(), expert.samples.size());
  }
}

absl::StatusOr<int> Add(const Options& options) {
  registry::ExpertSpec spec = options.spec;
  if (!options.prompt_file.empty()) {
    ASSIGN_OR_RETURN(spec.prompt, ReadTextFile(options.prompt_file, 64 << 10));
  }
  if (spec.base.empty() != spec.prompt.empty()) {
    return InvalidArgument("--base EXPERT and --prompt FILE go together");
  }
  if (!options.samples_file.empty()) {
    const std::string category =
        spec.categories.empty() ? "" : spec.categories[0];
    ASSIGN_OR_RETURN(spec.samples, ReadSamples(options.samples_file, category));
    for (const auto& sample : spec.samples) {
      if (sample.category.empty()) {
        return InvalidArgument("{}: samples without a category need --category",
                               options.samples_file);
      }
    }
    if (spec.categories.empty()) {
      for (const auto& sample : spec.samples) {
        if (std::find(spec.categories.begin(), spec.categories.end(),
                      sample.category) == spec.categories.end()) {
          spec.categories.push_back(sample.category);
        }
      }
    }
  }
  if (spec.categories.empty()) spec.categories = {"general"};
  ASSIGN_OR_RETURN(auto connection, ConnectRegistry(options.connection));
  ASSIGN_OR_RETURN(const auto added, connection->client().RegisterExpert(
                                         spec, NewIdempotencyKey(), Soon()));
  Print(added, "added", options.json);
  return 0;
}

absl::StatusOr<int> List(const Options& options) {
  ASSIGN_OR_RETURN(auto connection, ConnectRegistry(options.connection));
  ASSIGN_OR_RETURN(const auto experts,
                   connection->client().ListExperts(Soon()));
  if (options.json) {
    nlohmann::ordered_json rows = nlohmann::ordered_json::array();
    for (const auto& expert : experts) rows.push_back(ToJson(expert));
    std::printf("%s\n", rows.dump().c_str());
    return 0;
  }
  if (experts.empty()) {
    std::printf(
        "no experts; add one: conclave expert add NAME --model MODEL "
        "--category C\n");
    return 0;
  }
  // Where the models' weights are; empty when no service runs.
  std::map<std::string, std::string> weights;
  std::string memory;
  if (connection->serves()) {
    RETURN_IF_ERROR(
        connection->client().WaitUntilReady(absl::Now() + absl::Seconds(5)));
    for (const auto& [worker, stats] : AskWorkers(connection->client())) {
      memory += MemoryLine(worker, stats) + "\n";
      for (const auto& model : stats.models()) {
        std::string& place = weights[model.name()];
        if (place.empty() || model.resident_bytes() > 0) {
          place = WhereWeightsAre(model);
        }
      }
    }
  }
  std::vector<std::vector<std::string>> rows = {
      {"NAME", "STATE", "ANSWERS WITH", "WEIGHTS", "CATEGORIES", "SAMPLES"}};
  for (const auto& expert : experts) {
    const auto place = weights.find(expert.model);
    rows.push_back({expert.name, std::string(StateName(expert.state)),
                    Source(expert), place == weights.end() ? "" : place->second,
                    Join(expert.categories),
                    std::to_string(expert.samples.size())});
  }
  std::printf("%s%s", Table(rows).c_str(), memory.c_str());
  return 0;
}

absl::StatusOr<int> Show(const Options& options) {
  ASSIGN_OR_RETURN(auto connection, ConnectRegistry(options.connection));
  ASSIGN_OR_RETURN(const auto experts,
                   connection->client().ListExperts(Soon()));
  std::vector<std::string> known;
  for (const auto& expert : experts) {
    if (expert.name == options.spec.name) {
      std::printf("%s\n", ToJson(expert).dump(options.json ? -1 : 2).c_str());
      return 0;
    }
    known.push_back(expert.name);
  }
  return NotFound("no expert \"{}\".{}", options.spec.name,
                  DidYouMean(options.spec.name, known));
}

absl::StatusOr<int> Drain(const Options& options) {
  ASSIGN_OR_RETURN(auto connection, ConnectRegistry(options.connection));
  ASSIGN_OR_RETURN(const auto expert,
                   connection->client().DrainExpert(
                       options.spec.name, NewIdempotencyKey(), Soon()));
  Print(expert, "draining", options.json);
  return 0;
}

absl::StatusOr<int> Remove(const Options& options) {
  ASSIGN_OR_RETURN(auto connection, ConnectRegistry(options.connection));
  RETURN_IF_ERROR(connection->client().RemoveExpert(
      options.spec.name, /*expected_version=*/0, NewIdempotencyKey(), Soon()));
  if (!options.json) std::printf("removed %s\n", options.spec.name.c_str());
  return 0;
}

}  // namespace

void AddExpertCommand(CLI::App& app, Action& chosen) {
  CLI::App* expert = app.add_subcommand(
      "expert", "Say who answers what; works while the service runs");
  expert->require_subcommand(1);
  auto options = std::make_shared<Options>();
  const auto verb = [&](const char* name, const char* help,
                        absl::StatusOr<int> (*run)(const Options&)) {
    CLI::App* command = expert->add_subcommand(name, help);
    AddConnectionOptions(*command, options->connection, true);
    command->add_flag("--json", options->json, "Print JSON");
    command->final_callback(
        [options, run, &chosen] { chosen = [=] { return run(*options); }; });
    return command;
  };
  const auto with_name = [&](CLI::App* command) {
    command->add_option("name", options->spec.name, "The expert's name")
        ->required();
    return command;
  };
  CLI::App* add = with_name(
      verb("add",
           "Register an expert: a model, an endpoint, or a prompt over another "
           "expert",
           Add));
  registry::ExpertSpec& spec = options->spec;
  CLI::Option* model =
      add->add_option("--model", spec.model, "An imported model");
  CLI::Option* endpoint =
      add->add_option("--endpoint", spec.endpoint.url,
                      "An OpenAI-compatible server: http(s)://HOST[:PORT]/v1");
  CLI::Option* base = add->add_option("--base", spec.base,
                                      "Another expert, to put a prompt on");
  model->excludes(endpoint)->excludes(base);
  endpoint->excludes(base);
  add->add_option("--remote-model", spec.endpoint.remote_model,
                  "The model's name on the endpoint");
  add->add_option("--api-key-env", spec.endpoint.api_key_env,
                  "Environment variable (of the service) with the endpoint's "
                  "key");
  add->add_flag("--insecure", spec.endpoint.insecure,
                "Do not verify the endpoint's certificate");
  add->add_option("--prompt", options->prompt_file,
                  "File with the system prompt; with --base");
  add->add_option("--category", spec.categories,
                  "What it serves; may be repeated (default: general)");
  add->add_option("--samples", options->samples_file,
                  "JSON lines of typical requests: {\"text\": \"...\"}");
  add->add_option("--quality", spec.quality, "Expected quality, 0..1");
  add->add_option("--cost", spec.cost, "Expected cost of a request, any unit");
  add->add_option("--worker", spec.worker, "Place it on this worker");
  verb("list", "List experts", List);
  with_name(verb("show", "Show one expert", Show));
  with_name(
      verb("drain", "Take no new requests, finish what runs, then go", Drain));
  with_name(verb("rm", "Remove at once", Remove));
}

}  // namespace conclave::cli
