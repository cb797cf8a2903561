// conclave feedback: scores a past answer.
#include <absl/time/clock.h>
#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>

#include "cli/commands.h"
#include "cli/connection.h"

namespace conclave::cli {

void AddFeedbackCommand(CLI::App& app, Action& chosen) {
  struct Options {
    ConnectionOptions connection;
    std::string request_id;
    double score = 0;
    std::string comment;
    std::string tenant;
  };
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand(
      "feedback", "Score a past answer, so that routing can learn from it");
  AddConnectionOptions(*command, options->connection, false);
  command->add_option("request_id", options->request_id, "x-request-id")
      ->required();
  command->add_option("--score", options->score, "0 (bad) to 1 (good)")
      ->required();
  command->add_option("--comment", options->comment, "Why");
  command->add_option("--tenant", options->tenant,
                      "Whose request it was: the API key's name");
  command->final_callback([options, &chosen] {
    chosen = [options]() -> absl::StatusOr<int> {
      ASSIGN_OR_RETURN(auto router, ConnectRouter(options->connection));
      v1::FeedbackRequest request;
      request.set_request_id(options->request_id);
      request.set_score(options->score);
      request.set_comment(options->comment);
      request.set_tenant(options->tenant);
      RETURN_IF_ERROR(
          router->Feedback(request, absl::Now() + absl::Seconds(10)).status());
      std::printf("recorded\n");
      return 0;
    };
  });
}

}  // namespace conclave::cli
