// conclave doctor: looks at this machine and this data directory, and says
// what to mend.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>

#include "base/units.h"
#include "cli/commands.h"
#include "cli/connection.h"
#include "cli/terminal.h"
#include "kernels/ops.h"

namespace conclave::cli {
namespace {

struct Finding {
  std::string what;
  bool good = true;
  std::string text;
};

Finding Memory() {
  const int64_t bytes = TotalMemoryBytes();
  return {"memory", bytes >= 2 * kGiB,
          bytes >= 2 * kGiB
              ? FormatBytes(bytes)
              : FormatBytes(bytes) + "; models need at least 2 GiB"};
}

// Looks, and makes nothing: a directory made by the wrong user would be in the
// way of the service.
Finding DataDir(const std::string& path) {
  namespace fs = std::filesystem;
  std::error_code error;
  if (!fs::exists(path, error)) {
    return {"data directory", false,
            path +
                " is not there yet; the first `conclave model import` or "
                "`conclave serve` makes it"};
  }
  if (!fs::is_directory(path, error) || access(path.c_str(), W_OK) != 0) {
    return {"data directory", false,
            path + " cannot be written; choose another with --data-dir"};
  }
  const auto space = fs::space(path, error);
  const auto free_bytes = static_cast<int64_t>(space.available);
  return {"data directory", free_bytes >= 4 * kGiB,
          fmt::format("{}, {} free{}", path, FormatBytes(free_bytes),
                      free_bytes >= 4 * kGiB ? "" : "; imports need more")};
}

// With no service running, the experts are read from the data directory, if
// it holds any.
Finding Service(ConnectionOptions options, const std::string& data_dir) {
  options.data_dir = data_dir;
  std::error_code error;
  options.needs_service =
      !std::filesystem::exists(data_dir + "/registry", error);
  const auto connection = ConnectRegistry(options);
  if (!connection.ok()) {
    return {"service", false, std::string(Message(connection.status()))};
  }
  const auto experts =
      (*connection)->client().ListExperts(absl::Now() + absl::Seconds(5));
  if (!experts.ok()) {
    return {"service", false, std::string(Message(experts.status()))};
  }
  const bool some = !experts->empty();
  return {"experts", some,
          some
              ? fmt::format("{} at {}", experts->size(), (*connection)->where())
              : "none; add one: conclave expert add NAME --model MODEL"};
}

}  // namespace

void AddDoctorCommand(CLI::App& app, Action& chosen) {
  struct Options {
    ConnectionOptions connection;
    bool json = false;
  };
  auto options = std::make_shared<Options>();
  CLI::App* command =
      app.add_subcommand("doctor", "Look at this machine and say what to mend");
  AddConnectionOptions(*command, options->connection, true);
  command->add_flag("--json", options->json, "Print JSON");
  command->final_callback([options, &chosen] {
    chosen = [options]() -> absl::StatusOr<int> {
      const std::string data_dir = options->connection.data_dir.empty()
                                       ? DefaultDataDir()
                                       : options->connection.data_dir;
      const std::vector<Finding> findings = {
          {"processor", true,
           fmt::format("{} cores, {} kernels", PhysicalCores(),
                       kernels::IsaName(kernels::BestIsa()))},
          Memory(),
          DataDir(data_dir),
          Service(options->connection, data_dir)};
      bool all_good = true;
      nlohmann::ordered_json rows = nlohmann::ordered_json::array();
      for (const Finding& finding : findings) {
        all_good = all_good && finding.good;
        rows.push_back({{"what", finding.what},
                        {"good", finding.good},
                        {"text", finding.text}});
        if (!options->json) {
          std::printf("%s %-15s %s\n",
                      finding.good ? Styled("ok  ", Style::kGreen).c_str()
                                   : Styled("mend", Style::kRed).c_str(),
                      finding.what.c_str(), finding.text.c_str());
        }
      }
      if (options->json) std::printf("%s\n", rows.dump().c_str());
      return all_good ? 0 : 1;
    };
  });
}

}  // namespace conclave::cli
