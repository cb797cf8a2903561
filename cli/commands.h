// The subcommands. Each Add... declares its options on the application and
// returns nothing; the chosen one leaves its work in `chosen`, which main runs
// after parsing. One file a subcommand.
#ifndef CONCLAVE_CLI_COMMANDS_H_
#define CONCLAVE_CLI_COMMANDS_H_

#include <functional>
#include <string>

#include "base/status.h"

namespace CLI {
class App;
}

namespace conclave::cli {

// What main runs: the exit code, or an error to report.
using Action = std::function<absl::StatusOr<int>()>;

void AddServeCommand(CLI::App& app, Action& chosen);
void AddWorkerCommand(CLI::App& app, Action& chosen);
void AddModelCommand(CLI::App& app, Action& chosen);
void AddForgeCommand(CLI::App& app, Action& chosen);
void AddExpertCommand(CLI::App& app, Action& chosen);
void AddAliasCommand(CLI::App& app, Action& chosen);
void AddRouteCommand(CLI::App& app, Action& chosen);
void AddRunCommand(CLI::App& app, Action& chosen);
void AddFeedbackCommand(CLI::App& app, Action& chosen);
void AddPsCommand(CLI::App& app, Action& chosen);
void AddKeyCommand(CLI::App& app, Action& chosen);
void AddBenchCommand(CLI::App& app, Action& chosen);
void AddDoctorCommand(CLI::App& app, Action& chosen);

}  // namespace conclave::cli

#endif  // CONCLAVE_CLI_COMMANDS_H_
