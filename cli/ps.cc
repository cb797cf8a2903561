// conclave ps: what the workers hold in memory and run now.
#include <absl/time/clock.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/connection.h"
#include "cli/terminal.h"
#include "cli/worker_memory.h"

namespace conclave::cli {
namespace {

struct Options {
  ConnectionOptions connection;
  bool json = false;
};

using Rows = std::vector<std::vector<std::string>>;

void AddRows(const std::string& worker, const v1::WorkerStats& stats,
             Rows& rows, nlohmann::ordered_json& json) {
  nlohmann::ordered_json models = nlohmann::ordered_json::array();
  for (const auto& model : stats.models()) {
    models.push_back(
        {{"name", model.name()},
         {"version", model.version()},
         {"total_bytes", model.total_bytes()},
         {"resident_bytes", model.resident_bytes()},
         {"running", model.running()},
         {"waiting", model.waiting()},
         {"kv_pages_used", model.kv_pages_used()},
         {"kv_pages_total", model.kv_pages_total()},
         {"prompt_tokens", model.prompt_tokens()},
         {"generated_tokens", model.generated_tokens()},
         {"preemptions", model.preemptions()},
         {"prefix_cache",
          {{"pages", model.prefix_cache().pages()},
           {"hits", model.prefix_cache().hits()},
           {"tokens_saved", model.prefix_cache().tokens_saved()}}},
         {"speculation",
          {{"draft_tokens", model.speculation().draft_tokens()},
           {"accepted_tokens", model.speculation().accepted_tokens()}}},
         {"expert_cache",
          {{"resident_bytes", model.expert_cache().resident_bytes()},
           {"hits", model.expert_cache().hits()},
           {"reads", model.expert_cache().reads()},
           {"evictions", model.expert_cache().evictions()}}}});
    rows.push_back(
        {worker, model.name(), WhereWeightsAre(model),
         std::to_string(model.running()), std::to_string(model.waiting()),
         fmt::format("{}/{}", model.kv_pages_used(), model.kv_pages_total()),
         std::to_string(model.generated_tokens())});
  }
  json.push_back({{"worker", worker},
                  {"isa", stats.isa()},
                  {"threads", stats.threads()},
                  {"ram_budget_bytes", stats.ram_budget_bytes()},
                  {"ram_resident_bytes", stats.ram_resident_bytes()},
                  {"kv_budget_bytes", stats.kv_budget_bytes()},
                  {"process_resident_bytes", stats.process_resident_bytes()},
                  {"models", std::move(models)}});
}

absl::StatusOr<int> Ps(const Options& options) {
  ASSIGN_OR_RETURN(auto connection, ConnectRegistry(options.connection));
  RETURN_IF_ERROR(
      connection->client().WaitUntilReady(absl::Now() + absl::Seconds(5)));
  Rows rows = {{"WORKER", "MODEL", "WEIGHTS", "RUNNING", "WAITING", "KV PAGES",
                "TOKENS MADE"}};
  nlohmann::ordered_json json = nlohmann::ordered_json::array();
  std::string summary;
  for (const auto& [name, stats] : AskWorkers(connection->client())) {
    AddRows(name, stats, rows, json);
    summary += MemoryLine(name, stats) + "\n";
  }
  if (options.json) {
    std::printf("%s\n", json.dump().c_str());
  } else if (json.empty()) {
    std::printf("no worker answers; start one: conclave serve\n");
  } else {
    std::printf("%s%s", Table(rows).c_str(), summary.c_str());
  }
  return 0;
}

}  // namespace

void AddPsCommand(CLI::App& app, Action& chosen) {
  auto options = std::make_shared<Options>();
  CLI::App* command =
      app.add_subcommand("ps", "What workers hold in memory and run now");
  AddConnectionOptions(*command, options->connection, false);
  command->add_flag("--json", options->json, "Print JSON");
  command->final_callback(
      [options, &chosen] { chosen = [options] { return Ps(*options); }; });
}

}  // namespace conclave::cli
