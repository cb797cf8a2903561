// conclave run: asks, and streams the answer.
#include <absl/time/clock.h>
#include <CLI/CLI.hpp>
#include <atomic>
#include <csignal>
#include <cstdio>
#include <future>
#include <iostream>
#include <memory>

#include "cli/commands.h"
#include "cli/connection.h"
#include "cli/decision_text.h"
#include "cli/terminal.h"

namespace conclave::cli {
namespace {

struct Options {
  ConnectionOptions connection;
  std::string expert;
  std::string text;
  std::string system;
  int64_t max_tokens = 512;
  float temperature = 0.7f;
  int64_t seed = -1;
  int timeout_seconds = 600;
  bool quiet = false;
};

std::atomic<bool> g_interrupted{false};

absl::StatusOr<int> Run(const Options& options) {
  ASSIGN_OR_RETURN(auto router, ConnectRouter(options.connection));
  v1::GenerateRequest request;
  request.set_model(options.expert);
  if (!options.system.empty()) {
    auto* message = request.mutable_chat()->add_messages();
    message->set_role("system");
    message->set_content(options.system);
  }
  std::string text = options.text;
  if (text == "-") {
    text.assign(std::istreambuf_iterator<char>(std::cin), {});
  }
  auto* message = request.mutable_chat()->add_messages();
  message->set_role("user");
  message->set_content(text);
  request.mutable_sampling()->set_max_tokens(options.max_tokens);
  request.mutable_sampling()->set_temperature(options.temperature);
  if (options.seed >= 0) {
    request.mutable_sampling()->set_seed(static_cast<uint64_t>(options.seed));
  }

  std::promise<absl::Status> done;
  std::future<absl::Status> finished = done.get_future();
  StreamCallbacks callbacks;
  callbacks.on_event = [&options](const v1::GenerateEvent& event) {
    if (event.has_started() && !options.quiet) {
      std::fprintf(stderr, "%s\n",
                   DecisionLine(event.started().decision()).c_str());
    }
    if (event.has_delta()) {
      std::fputs(event.delta().text().c_str(), stdout);
      std::fflush(stdout);
    }
    if (event.has_finished() && event.finished().reason() == "length" &&
        !options.quiet) {
      std::fprintf(stderr, "%s",
                   StyledError("\n[cut at --max-tokens]", Style::kDim).c_str());
    }
  };
  callbacks.on_done = [&done](absl::Status status) { done.set_value(status); };
  auto call = router->Generate(
      request, absl::Now() + absl::Seconds(options.timeout_seconds), callbacks);
  std::signal(SIGINT, [](int) { g_interrupted = true; });
  while (finished.wait_for(std::chrono::milliseconds(50)) !=
         std::future_status::ready) {
    if (g_interrupted) call->Cancel();
  }
  std::fputc('\n', stdout);
  const absl::Status status = finished.get();
  if (g_interrupted) return 130;  // As shells report Ctrl-C.
  RETURN_IF_ERROR(status);
  return 0;
}

}  // namespace

void AddRunCommand(CLI::App& app, Action& chosen) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("run", "Ask, and stream the answer");
  AddConnectionOptions(*command, options->connection, false);
  command
      ->add_option("expert", options->expert,
                   "auto, or the name of an expert or a model")
      ->required();
  command
      ->add_option("text", options->text,
                   "What to ask; - reads it from standard input")
      ->required();
  command->add_option("--system", options->system, "A system message");
  command->add_option("--max-tokens", options->max_tokens,
                      "Longest answer, tokens");
  command->add_option("--temperature", options->temperature,
                      "0 (the likeliest answer) to 2");
  command->add_option("--seed", options->seed, "Same seed, same answer");
  command->add_option("--timeout", options->timeout_seconds, "Seconds");
  command->add_flag("--quiet", options->quiet, "The answer alone");
  command->final_callback(
      [options, &chosen] { chosen = [options] { return Run(*options); }; });
}

}  // namespace conclave::cli
