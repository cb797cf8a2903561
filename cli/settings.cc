#include "cli/settings.h"

#include <yaml-cpp/yaml.h>

#include <CLI/CLI.hpp>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <vector>

#include "base/names.h"

namespace conclave::cli {
namespace {

// Options that a file or the environment may set: those with a long name,
// other than --help, --config and --json.
std::map<std::string, CLI::Option*> Settable(CLI::App& command) {
  std::map<std::string, CLI::Option*> options;
  for (CLI::Option* option : command.get_options()) {
    for (const std::string& name : option->get_lnames()) {
      if (name == "help" || name == "config" || name == "json") continue;
      options[name] = option;
    }
  }
  return options;
}

absl::Status Set(CLI::Option& option, const std::vector<std::string>& values,
                 const std::string& where) {
  try {
    for (const std::string& value : values) option.add_result(value);
    option.run_callback();
  } catch (const CLI::Error& error) {
    return InvalidArgument("{}: {}", where, error.what());
  }
  return absl::OkStatus();
}

using YamlSettings = std::map<std::string, std::vector<std::string>>;

absl::StatusOr<YamlSettings> ReadYaml(const std::string& path) {
  std::error_code error;
  const auto size = std::filesystem::file_size(path, error);
  if (error) return NotFound("config file {}: {}", path, error.message());
  constexpr uintmax_t kMaxConfigBytes = 1 << 20;
  if (size > kMaxConfigBytes) {
    return InvalidArgument("config file {} is {} bytes; at most {}", path, size,
                           kMaxConfigBytes);
  }
  try {
    const YAML::Node root = YAML::LoadFile(path);
    YamlSettings settings;
    if (root.IsNull()) return settings;
    if (!root.IsMap()) {
      return InvalidArgument("config file {}: expected `key: value` lines",
                             path);
    }
    for (const auto& entry : root) {
      const std::string key = entry.first.as<std::string>();
      std::vector<std::string>& values = settings[key];
      if (entry.second.IsScalar()) {
        values.push_back(entry.second.as<std::string>());
      } else if (entry.second.IsSequence()) {
        for (const auto& item : entry.second) {
          values.push_back(item.as<std::string>());
        }
      } else {
        return InvalidArgument("config file {}: key \"{}\" needs a value", path,
                               key);
      }
    }
    return settings;
  } catch (const YAML::Exception& bad) {
    return InvalidArgument("config file {}: {}", path, bad.what());
  }
}

}  // namespace

std::string EnvironmentName(std::string_view option) {
  std::string name = "CONCLAVE_";
  for (char c : option) {
    name +=
        c == '-' ? '_' : static_cast<char>(c >= 'a' && c <= 'z' ? c - 32 : c);
  }
  return name;
}

absl::Status ApplySettings(CLI::App& command, const std::string& config_path) {
  const std::map<std::string, CLI::Option*> options = Settable(command);
  YamlSettings yaml;
  if (!config_path.empty()) {
    ASSIGN_OR_RETURN(yaml, ReadYaml(config_path));
  }
  std::vector<std::string> known;
  for (const auto& [name, option] : options) known.push_back(name);
  for (const auto& [key, values] : yaml) {
    if (options.find(key) == options.end()) {
      return InvalidArgument("config file {}: unknown key \"{}\".{}",
                             config_path, key, DidYouMean(key, known));
    }
  }
  for (const auto& [name, option] : options) {
    if (option->count() > 0) continue;
    const std::string variable = EnvironmentName(name);
    if (const char* value = std::getenv(variable.c_str())) {
      RETURN_IF_ERROR(Set(*option, {value}, "environment " + variable));
    } else if (const auto it = yaml.find(name); it != yaml.end()) {
      RETURN_IF_ERROR(
          Set(*option, it->second,
              fmt::format("config file {}, key \"{}\"", config_path, name)));
    }
  }
  return absl::OkStatus();
}

void DescribeSettings(CLI::App& command) {
  for (const auto& [name, option] : Settable(command)) {
    option->description(fmt::format("{} ({})", option->get_description(),
                                    EnvironmentName(name)));
  }
}

}  // namespace conclave::cli
