// How soon an expert that is added to a running service is used: from the
// acknowledgement of its registration to the first decision that chooses it,
// and to the first token of a request to `auto` that it answers.
//
//   conclave serve &
//   conclave_bench_hot_add --grpc 127.0.0.1:50051 --model smollm2
//
// Every round adds an expert with six samples, asks what is like them, and
// removes it. Other experts stay as they are.
#include <absl/time/clock.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <future>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/machine.h"
#include "base/rpc/server.h"
#include "registry/client.h"
#include "router_service/client.h"

namespace conclave {
namespace {

struct Options {
  std::string grpc = "127.0.0.1:50051";
  std::string model = "smollm2";
  int rounds = 20;
};

constexpr const char* kSamples[] = {
    "Is this contract clause enforceable in court?",
    "What does the statute of limitations say about torts?",
    "Draft a non-disclosure agreement between two companies",
    "Can my landlord evict me without notice?",
    "Explain the doctrine of consideration in contract law",
    "What are my rights if I am sued for negligence?"};
constexpr char kQuestion[] = "Is a verbal contract enforceable in court?";

absl::Time Deadline() { return absl::Now() + absl::Minutes(1); }

void Check(const absl::Status& status, const char* what) {
  if (status.ok()) return;
  std::fprintf(stderr, "%s: %s\n", what, std::string(Message(status)).c_str());
  std::exit(1);
}

double MillisSince(int64_t start) {
  return static_cast<double>(Clock::Real().MonotonicNanos() - start) / 1e6;
}

// Who answers the question, and how long its first token took from `start`.
struct Answer {
  std::string expert;
  double first_token_ms = 0;
};
Answer Ask(router::RouterClient& router, int64_t start) {
  v1::GenerateRequest request;
  request.set_model("auto");
  v1::ChatMessage* message = request.mutable_chat()->add_messages();
  message->set_role("user");
  message->set_content(kQuestion);
  request.mutable_sampling()->set_max_tokens(1);
  Answer answer;
  std::promise<absl::Status> done;
  StreamCallbacks callbacks;
  callbacks.on_event = [&](const v1::GenerateEvent& event) {
    if (event.has_started()) answer.expert = event.started().expert();
    if (event.has_delta() && answer.first_token_ms == 0) {
      answer.first_token_ms = MillisSince(start);
    }
  };
  callbacks.on_done = [&](absl::Status status) { done.set_value(status); };
  const auto call = router.Generate(request, Deadline(), std::move(callbacks));
  Check(done.get_future().get(), "Generate");
  return answer;
}

void Print(const char* what, std::vector<double> millis) {
  std::sort(millis.begin(), millis.end());
  std::printf("| %s | %.0f | %.0f | %.0f |\n", what, millis[0],
              millis[millis.size() / 2], millis.back());
}

int Main(int argc, char** argv) {
  Options options;
  CLI::App app("How soon an added expert is used");
  app.add_option("--grpc", options.grpc, "HOST:PORT of the services");
  app.add_option("--model", options.model, "A model that the service has");
  app.add_option("--rounds", options.rounds, "Experts added, one by one")
      ->check(CLI::Range(1, 100000));
  CLI11_PARSE(app, argc, argv);

  auto registry = registry::RegistryClient::Create(rpc::Connect(options.grpc));
  auto router = router::RouterClient::Create(rpc::Connect(options.grpc));
  Check(registry->WaitUntilReady(absl::Now() + absl::Seconds(10)),
        "the registry");
  // The model is loaded and the router has decided once.
  Ask(*router, Clock::Real().MonotonicNanos());

  std::vector<double> acknowledged, decided, answered;
  int first_decisions = 0;
  for (int round = 0; round < options.rounds; ++round) {
    registry::ExpertSpec spec;
    spec.name = "bench-hot-add-" + std::to_string(getpid());
    spec.model = options.model;
    spec.categories = {spec.name};
    for (const char* text : kSamples) spec.samples.push_back({text, ""});
    const int64_t begin = Clock::Real().MonotonicNanos();
    Check(registry->RegisterExpert(spec, "", Deadline()).status(), "register");
    acknowledged.push_back(MillisSince(begin));

    const int64_t start = Clock::Real().MonotonicNanos();
    for (int tries = 0;; ++tries) {
      v1::RouteRequest request;
      request.set_model("auto");
      request.set_text(kQuestion);
      const auto decision = router->Route(request, Deadline());
      Check(decision.status(), "Route");
      if (decision->expert() == spec.name) {
        first_decisions += tries == 0;
        break;
      }
      if (MillisSince(start) > 10000) {
        Check(DeadlineExceeded("{} was never chosen: {}", spec.name,
                               decision->why()),
              "Route");
      }
      absl::SleepFor(absl::Milliseconds(1));
    }
    decided.push_back(MillisSince(start));
    const int64_t asked = Clock::Real().MonotonicNanos();
    const Answer answer = Ask(*router, asked);
    if (answer.expert == spec.name) answered.push_back(answer.first_token_ms);
    Check(registry->RemoveExpert(spec.name, 0, "", Deadline()), "remove");
  }
  std::printf("%s\n\n", MachineLine().c_str());
  std::printf("| %d rounds, ms | least | p50 | most |\n|---|---|---|---|\n",
              options.rounds);
  Print("registration acknowledged", acknowledged);
  Print("from there to the first decision for it", decided);
  if (!answered.empty()) {
    Print("a request that it answers, to its first token", answered);
  }
  std::printf(
      "\nchosen by the very next request: %d of %d; then answered: %zu\n",
      first_decisions, options.rounds, answered.size());
  return 0;
}

}  // namespace
}  // namespace conclave

int main(int argc, char** argv) { return conclave::Main(argc, argv); }
