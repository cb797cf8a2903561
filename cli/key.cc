// conclave key: makes an API key.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>

#include "base/names.h"
#include "cli/commands.h"
#include "router_service/gateway/api_keys.h"

namespace conclave::cli {

void AddKeyCommand(CLI::App& app, Action& chosen) {
  auto name = std::make_shared<std::string>();
  CLI::App* command = app.add_subcommand(
      "key",
      "Make an API key: the key on standard error (give it to its user), the "
      "line for --api-key-file on standard output");
  command->add_option("name", *name, "Whose key it is")->required();
  command->final_callback([name, &chosen] {
    chosen = [name]() -> absl::StatusOr<int> {
      RETURN_IF_ERROR(CheckName("key", *name));
      ASSIGN_OR_RETURN(const std::string key, gateway::MakeKey());
      std::fprintf(stderr, "%s\n", key.c_str());
      std::printf("%s\n", gateway::KeyLine(key, *name).c_str());
      return 0;
    };
  });
}

}  // namespace conclave::cli
