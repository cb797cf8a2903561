#include "cli/worker_options.h"

#include <absl/strings/str_split.h>

#include <CLI/CLI.hpp>
#include <vector>

#include "base/units.h"

namespace conclave::cli {

void AddWorkerOptions(CLI::App& command, WorkerOptions& options) {
  command.add_option("--threads", options.threads,
                     "Threads that compute (0: physical cores)");
  command.add_option("--ram-budget", options.ram_budget,
                     "Memory for weights: BYTES, 8G, or a share such as 64%");
  command.add_option("--kv-budget", options.kv_budget,
                     "Memory for the KV caches of all models, as above");
  command.add_option("--max-batch", options.max_batch,
                     "Requests of one model that run together");
  command.add_option("--max-context", options.max_context,
                     "Longest context, tokens (0: the model's own)");
  command.add_option("--isa", options.isa,
                     "Kernels to use: scalar, avx2, avx512 (default: the best "
                     "there is; the answers are the same)");
  command.add_option("--draft", options.draft,
                     "MODEL=SMALLER[,...]: the smaller model, of the same "
                     "vocabulary, guesses the other's next tokens where that "
                     "is faster; the answers are the same");
}

absl::StatusOr<workers::ModelHostOptions> ResolveWorkerOptions(
    const WorkerOptions& options) {
  const int64_t memory = TotalMemoryBytes();
  workers::ModelHostOptions host;
  const auto bytes = [&](const std::string& text, const char* flag,
                         int64_t& out) -> absl::Status {
    const absl::StatusOr<int64_t> parsed = ParseBytes(text, memory);
    if (!parsed.ok()) return Annotate(parsed.status(), flag);
    if (*parsed <= 0) return InvalidArgument("{} must be more than 0", flag);
    out = *parsed;
    return absl::OkStatus();
  };
  RETURN_IF_ERROR(
      bytes(options.ram_budget, "--ram-budget", host.ram_budget_bytes));
  RETURN_IF_ERROR(
      bytes(options.kv_budget, "--kv-budget", host.kv_budget_bytes));
  if (host.ram_budget_bytes > memory - host.kv_budget_bytes) {
    return InvalidArgument(
        "--ram-budget {} and --kv-budget {} together exceed this machine's {}",
        FormatBytes(host.ram_budget_bytes), FormatBytes(host.kv_budget_bytes),
        FormatBytes(memory));
  }
  if (options.threads < 0 || options.threads > 256) {
    return InvalidArgument("--threads is {}; it must be 0..256",
                           options.threads);
  }
  if (options.max_batch < 1 || options.max_batch > 1024) {
    return InvalidArgument("--max-batch is {}; it must be 1..1024",
                           options.max_batch);
  }
  if (options.max_context < 0) {
    return InvalidArgument("--max-context is {}; it must be 0 or more",
                           options.max_context);
  }
  host.threads = options.threads > 0 ? options.threads : PhysicalCores();
  host.max_batch = options.max_batch;
  host.max_context = options.max_context;
  host.isa = options.isa;
  const std::vector<std::string> pairs =
      absl::StrSplit(options.draft, ',', absl::SkipEmpty());
  for (const std::string& pair : pairs) {
    const std::vector<std::string> names = absl::StrSplit(pair, '=');
    if (names.size() != 2 || names[0].empty() || names[1].empty() ||
        names[0] == names[1]) {
      return InvalidArgument(
          "--draft has \"{}\"; give MODEL=SMALLER, two models' names", pair);
    }
    host.drafts[names[0]] = names[1];
  }
  return host;
}

}  // namespace conclave::cli
