// conclave: one binary, subcommands. Everything is wired in this folder and
// nowhere else.
#include <CLI/CLI.hpp>
#include <csignal>

#include "cli/commands.h"
#include "cli/terminal.h"

int main(int argc, char** argv) {
  using namespace conclave::cli;
  // A reader that goes away (`conclave route ... | head`) is not a crash.
  std::signal(SIGPIPE, SIG_IGN);
  CLI::App app{
      "Conclave: several language models behind one endpoint; each request is "
      "answered by the right one.\n\n"
      "  conclave model import FILE.gguf --name NAME    bring a model in\n"
      "  conclave expert add NAME --model NAME ...      let it answer\n"
      "  conclave serve                                 one endpoint for all\n"
      "  conclave route \"a question\"                    who would answer, "
      "and "
      "why\n"
      "  conclave run auto \"a question\"                 the answer\n"};
  app.require_subcommand(1);
  app.set_help_all_flag("--help-all", "Help of every subcommand");
  app.option_defaults()->always_capture_default();
  Action chosen;
  AddServeCommand(app, chosen);
  AddWorkerCommand(app, chosen);
  AddModelCommand(app, chosen);
  AddForgeCommand(app, chosen);
  AddExpertCommand(app, chosen);
  AddAliasCommand(app, chosen);
  AddRouteCommand(app, chosen);
  AddRunCommand(app, chosen);
  AddFeedbackCommand(app, chosen);
  AddPsCommand(app, chosen);
  AddKeyCommand(app, chosen);
  AddBenchCommand(app, chosen);
  AddDoctorCommand(app, chosen);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  if (!chosen) return 2;
  const absl::StatusOr<int> result = chosen();
  if (!result.ok()) return ReportError(result.status());
  return *result;
}
