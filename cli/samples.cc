#include "cli/samples.h"

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "base/units.h"

namespace conclave::cli {

absl::StatusOr<std::string> ReadTextFile(const std::string& path,
                                         int64_t limit) {
  std::error_code error;
  if (!std::filesystem::is_regular_file(path, error)) {
    return NotFound("{}: no such file", path);
  }
  const auto size = std::filesystem::file_size(path, error);
  if (error) return NotFound("{}: {}", path, error.message());
  if (size > static_cast<uintmax_t>(limit)) {
    return InvalidArgument("{} is {}; at most {}", path,
                           FormatBytes(static_cast<int64_t>(size)),
                           FormatBytes(limit));
  }
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  if (!file) return PermissionDenied("{} cannot be read", path);
  return text.str();
}

absl::StatusOr<std::vector<registry::Sample>> ReadSamples(
    const std::string& path, const std::string& default_category) {
  ASSIGN_OR_RETURN(const std::string text, ReadTextFile(path, 64 * kMiB));
  std::vector<registry::Sample> samples;
  std::istringstream lines(text);
  std::string line;
  for (int number = 1; std::getline(lines, line); ++number) {
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    const nlohmann::json row =
        nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
    const auto is_string = [&](const char* key) {
      return row.contains(key) && row[key].is_string();
    };
    if (!row.is_object() || !is_string("text") ||
        (row.contains("category") && !is_string("category"))) {
      return InvalidArgument(
          "{} line {}: expected {{\"text\": \"...\"}} or {{\"text\": \"...\", "
          "\"category\": \"...\"}}",
          path, number);
    }
    samples.push_back({row["text"].get<std::string>(),
                       row.contains("category")
                           ? row["category"].get<std::string>()
                           : default_category});
  }
  if (samples.empty()) return InvalidArgument("{} holds no samples", path);
  return samples;
}

}  // namespace conclave::cli
