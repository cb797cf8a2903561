// conclave alias set|rm
#include <absl/time/clock.h>
#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>

#include "cli/commands.h"
#include "cli/connection.h"

namespace conclave::cli {

void AddAliasCommand(CLI::App& app, Action& chosen) {
  struct Options {
    ConnectionOptions connection;
    std::string alias;
    std::string expert;
  };
  auto options = std::make_shared<Options>();
  CLI::App* alias = app.add_subcommand("alias", "Other names for experts");
  alias->require_subcommand(1);
  CLI::App* set = alias->add_subcommand("set", "Point an alias at an expert");
  CLI::App* remove = alias->add_subcommand("rm", "Remove an alias");
  for (CLI::App* command : {set, remove}) {
    AddConnectionOptions(*command, options->connection, true);
    command->add_option("alias", options->alias, "The alias")->required();
  }
  set->add_option("expert", options->expert, "The expert")->required();
  set->final_callback([options, &chosen] {
    chosen = [options]() -> absl::StatusOr<int> {
      ASSIGN_OR_RETURN(auto connection, ConnectRegistry(options->connection));
      RETURN_IF_ERROR(connection->client().SetAlias(
          options->alias, options->expert, absl::Now() + absl::Seconds(10)));
      std::printf("%s -> %s\n", options->alias.c_str(),
                  options->expert.c_str());
      return 0;
    };
  });
  remove->final_callback([options, &chosen] {
    chosen = [options]() -> absl::StatusOr<int> {
      ASSIGN_OR_RETURN(auto connection, ConnectRegistry(options->connection));
      RETURN_IF_ERROR(connection->client().RemoveAlias(
          options->alias, absl::Now() + absl::Seconds(10)));
      std::printf("removed %s\n", options->alias.c_str());
      return 0;
    };
  });
}

}  // namespace conclave::cli
