// conclave serve: the whole service in one process.
#include <absl/time/clock.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>

#include "cli/commands.h"
#include "cli/connection.h"
#include "cli/house.h"
#include "cli/settings.h"
#include "cli/signals.h"

namespace conclave::cli {
namespace {

struct Options {
  HouseOptions house;
  std::string config;
  int drain_seconds = 45;
};

absl::StatusOr<int> Serve(CLI::App& command, Options& options) {
  RETURN_IF_ERROR(ApplySettings(command, options.config));
  if (options.house.data_dir.empty()) {
    options.house.data_dir = DefaultDataDir();
  }
  BlockTerminationSignals();
  ASSIGN_OR_RETURN(auto house, House::Open(options.house));
  std::printf("ready http://%s grpc %s\n", house->http_address().c_str(),
              house->grpc_address().c_str());
  std::fflush(stdout);
  WaitForTermination();
  std::fprintf(stderr, "draining: running answers end, new ones are refused\n");
  const bool clean =
      house->Drain(absl::Now() + absl::Seconds(options.drain_seconds));
  house.reset();
  return clean ? 0 : 1;
}

}  // namespace

void AddServeCommand(CLI::App& app, Action& chosen) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand(
      "serve",
      "One endpoint for all experts: OpenAI HTTP and gRPC.\n"
      "Every option can also come from the environment (CONCLAVE_...) or from "
      "a YAML file (--config); flags win, then the environment");
  HouseOptions& house = options->house;
  command->add_option("--config", options->config, "YAML file of options");
  command->add_option("--data-dir", house.data_dir,
                      "Weights, registry, journal (default "
                      "~/.local/share/conclave)");
  command->add_option("--http", house.http,
                      "HOST:PORT of the OpenAI API; port 0: any");
  command->add_option("--grpc", house.grpc,
                      "HOST:PORT of the gRPC services; port 0: any");
  command->add_option("--api-key-file", house.api_key_file,
                      "Who may call; made by `conclave key NAME`. Needed "
                      "unless --http is loopback");
  command->add_option("--encoder", house.encoder,
                      "Model that reads uncertain requests: a name, auto, or "
                      "none");
  command->add_flag("--allow-remote-grpc", house.allow_remote_grpc,
                    "Let --grpc be an address that other machines reach");
  command->add_option("--first-token-timeout", house.first_token_timeout,
                      "Seconds an expert has for its first token; then the "
                      "next candidate is asked (0: any time)");
  command->add_option("--token-timeout", house.token_timeout,
                      "Seconds from one token to the next; then the answer "
                      "ends with an error (0: any time)");
  command->add_option("--drain-seconds", options->drain_seconds,
                      "How long running answers may take after SIGTERM");
  AddRoutingOptions(*command, house.routing);
  AddWorkerOptions(*command, house.worker);
  DescribeSettings(*command);
  command->final_callback([options, command, &chosen] {
    chosen = [options, command] { return Serve(*command, *options); };
  });
}

}  // namespace conclave::cli
