// Samples files: JSON lines, {"text": "..."} or {"text": "...", "category":
// "..."}.
#ifndef CONCLAVE_CLI_SAMPLES_H_
#define CONCLAVE_CLI_SAMPLES_H_

#include <string>
#include <vector>

#include "base/status.h"
#include "registry/expert_spec.h"

namespace conclave::cli {

// INVALID_ARGUMENT names the line; a line without a category gets
// `default_category`. At most 64 MiB.
absl::StatusOr<std::vector<registry::Sample>> ReadSamples(
    const std::string& path, const std::string& default_category);

// A whole text file, at most `limit` bytes.
absl::StatusOr<std::string> ReadTextFile(const std::string& path,
                                         int64_t limit);

}  // namespace conclave::cli

#endif  // CONCLAVE_CLI_SAMPLES_H_
