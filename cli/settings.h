// One option, four places to set it, in this order:
//   a flag         --ram-budget 8G
//   environment    CONCLAVE_RAM_BUDGET=8G
//   a YAML file    ram-budget: 8G          (--config FILE)
//   the default
// An unknown key in the file is refused with the nearest known one.
#ifndef CONCLAVE_CLI_SETTINGS_H_
#define CONCLAVE_CLI_SETTINGS_H_

#include <string>
#include <string_view>

#include "base/status.h"

namespace CLI {
class App;
}

namespace conclave::cli {

// "ram-budget" -> "CONCLAVE_RAM_BUDGET".
std::string EnvironmentName(std::string_view option);

// Fills the options of `command` that no flag has set, from the environment,
// then from `config_path` (may be empty). Call after parsing.
// DescribeSettings adds the variable's name to each option's help.
absl::Status ApplySettings(CLI::App& command, const std::string& config_path);
void DescribeSettings(CLI::App& command);

}  // namespace conclave::cli

#endif  // CONCLAVE_CLI_SETTINGS_H_
