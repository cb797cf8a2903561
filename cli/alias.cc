// conclave alias set|list|rm
#include <absl/time/clock.h>
#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/connection.h"
#include "cli/terminal.h"

namespace conclave::cli {
namespace {

absl::StatusOr<int> List(const ConnectionOptions& options, bool json) {
  ASSIGN_OR_RETURN(auto connection, ConnectRegistry(options));
  RETURN_IF_ERROR(
      connection->client().WaitUntilReady(absl::Now() + absl::Seconds(10)));
  const auto snapshot = connection->client().snapshot();
  if (json) {
    nlohmann::ordered_json out = nlohmann::ordered_json::array();
    for (const auto& [alias, record] : snapshot->aliases) {
      out.push_back({{"alias", alias},
                     {"expert", record.expert},
                     {"version", record.version}});
    }
    std::printf("%s\n", out.dump().c_str());
    return 0;
  }
  if (snapshot->aliases.empty()) {
    std::printf("no aliases; set one: conclave alias set ALIAS EXPERT\n");
    return 0;
  }
  std::vector<std::vector<std::string>> rows = {{"ALIAS", "EXPERT", "VERSION"}};
  for (const auto& [alias, record] : snapshot->aliases) {
    rows.push_back({alias, record.expert, std::to_string(record.version)});
  }
  std::printf("%s", Table(rows).c_str());
  return 0;
}

}  // namespace

void AddAliasCommand(CLI::App& app, Action& chosen) {
  struct Options {
    ConnectionOptions connection;
    std::string alias;
    std::string expert;
    uint64_t expected_version = 0;
    bool json = false;
  };
  auto options = std::make_shared<Options>();
  CLI::App* alias = app.add_subcommand("alias", "Other names for experts");
  alias->require_subcommand(1);
  CLI::App* set = alias->add_subcommand("set", "Point an alias at an expert");
  CLI::App* remove = alias->add_subcommand("rm", "Remove an alias");
  for (CLI::App* command : {set, remove}) {
    AddConnectionOptions(*command, options->connection, true);
    command->add_option("alias", options->alias, "The alias")->required();
    command->add_option("--expected-version", options->expected_version,
                        "Only if it is still at this version (0: any)");
  }
  CLI::App* list = alias->add_subcommand("list", "List aliases");
  AddConnectionOptions(*list, options->connection, true);
  list->add_flag("--json", options->json, "Print JSON");
  list->final_callback([options, &chosen] {
    chosen = [options] { return List(options->connection, options->json); };
  });
  set->add_option("expert", options->expert, "The expert")->required();
  set->final_callback([options, &chosen] {
    chosen = [options]() -> absl::StatusOr<int> {
      ASSIGN_OR_RETURN(auto connection, ConnectRegistry(options->connection));
      RETURN_IF_ERROR(connection->client()
                          .SetAlias(options->alias, options->expert,
                                    options->expected_version,
                                    NewIdempotencyKey(),
                                    absl::Now() + absl::Seconds(10))
                          .status());
      std::printf("%s -> %s\n", options->alias.c_str(),
                  options->expert.c_str());
      return 0;
    };
  });
  remove->final_callback([options, &chosen] {
    chosen = [options]() -> absl::StatusOr<int> {
      ASSIGN_OR_RETURN(auto connection, ConnectRegistry(options->connection));
      RETURN_IF_ERROR(connection->client().RemoveAlias(
          options->alias, options->expected_version, NewIdempotencyKey(),
          absl::Now() + absl::Seconds(10)));
      std::printf("removed %s\n", options->alias.c_str());
      return 0;
    };
  });
}

}  // namespace conclave::cli
