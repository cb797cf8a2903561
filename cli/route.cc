// conclave route: the decision, readable; --json the whole of it.
#include <absl/time/clock.h>
#include <CLI/CLI.hpp>
#include <cstdio>
#include <iostream>
#include <memory>

#include "cli/commands.h"
#include "cli/connection.h"
#include "cli/decision_text.h"
#include "router_service/gateway/decision_json.h"

namespace conclave::cli {
namespace {

struct Options {
  ConnectionOptions connection;
  std::string text;
  std::string model = "auto";
  bool json = false;
};

absl::Status RouteOne(router::RouterClient& router, const Options& options,
                      const std::string& text) {
  v1::RouteRequest request;
  request.set_model(options.model);
  request.set_text(text);
  ASSIGN_OR_RETURN(const v1::Decision decision,
                   router.Route(request, absl::Now() + absl::Seconds(30)));
  if (options.json) {
    std::printf("%s\n", gateway::DecisionJson(decision).dump().c_str());
  } else {
    std::printf("%s", DecisionText(decision).c_str());
  }
  std::fflush(stdout);
  return absl::OkStatus();
}

absl::StatusOr<int> Route(const Options& options) {
  ASSIGN_OR_RETURN(auto router, ConnectRouter(options.connection));
  if (options.text != "-") {
    RETURN_IF_ERROR(RouteOne(*router, options, options.text));
    return 0;
  }
  std::string line;
  while (std::getline(std::cin, line)) {
    RETURN_IF_ERROR(RouteOne(*router, options, line));
  }
  return 0;
}

}  // namespace

void AddRouteCommand(CLI::App& app, Action& chosen) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand(
      "route", "Who would answer a request, and why; nothing is generated");
  AddConnectionOptions(*command, options->connection, false);
  command->add_flag("--json", options->json, "Print the whole decision");
  command->add_option("--model", options->model, "auto, or an expert's name");
  command
      ->add_option("text", options->text,
                   "The request; - reads one a line from standard input")
      ->required();
  command->final_callback(
      [options, &chosen] { chosen = [options] { return Route(*options); }; });
}

}  // namespace conclave::cli
