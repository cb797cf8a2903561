// conclave model import|list|show|rm
#include <absl/time/clock.h>
#include <CLI/CLI.hpp>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>

#include "base/names.h"
#include "base/units.h"
#include "cli/commands.h"
#include "cli/connection.h"
#include "cli/terminal.h"

namespace conclave::cli {
namespace {

struct Options {
  ConnectionOptions connection;
  std::string path;
  std::string name;
  std::string expected_version;
  bool json = false;
};

nlohmann::ordered_json ToJson(const registry::ModelRecord& model) {
  return {{"name", model.name},
          {"version", model.version},
          {"architecture", model.architecture},
          {"bytes", model.bytes},
          {"parameters", model.parameters},
          {"context", model.context},
          {"source", model.source}};
}

absl::Time Soon() { return absl::Now() + absl::Seconds(10); }

absl::StatusOr<int> Import(const Options& options) {
  RETURN_IF_ERROR(CheckName("model", options.name));
  std::error_code error;
  const std::filesystem::path path =
      std::filesystem::canonical(options.path, error);
  if (error) return NotFound("{}: {}", options.path, error.message());
  ASSIGN_OR_RETURN(auto connection, ConnectRegistry(options.connection));
  absl::StatusOr<registry::ModelRecord> model;
  {
    ProgressBar bar("import " + options.name);
    model = connection->client().ImportModel(
        path.string(), options.name, NewIdempotencyKey(),
        [&bar](int64_t done, int64_t total) { bar.Update(done, total); },
        absl::Now() + absl::Hours(6));
  }
  RETURN_IF_ERROR(model.status());
  if (options.json) {
    std::printf("%s\n", ToJson(*model).dump().c_str());
  } else {
    std::printf("imported %s: %s, %.0fM parameters, %s, version %.12s\n",
                model->name.c_str(), model->architecture.c_str(),
                static_cast<double>(model->parameters) / 1e6,
                FormatBytes(model->bytes).c_str(), model->version.c_str());
  }
  return 0;
}

absl::StatusOr<int> List(const Options& options) {
  ASSIGN_OR_RETURN(auto connection, ConnectRegistry(options.connection));
  ASSIGN_OR_RETURN(const auto models, connection->client().ListModels(Soon()));
  if (options.json) {
    nlohmann::ordered_json rows = nlohmann::ordered_json::array();
    for (const auto& model : models) rows.push_back(ToJson(model));
    std::printf("%s\n", rows.dump().c_str());
    return 0;
  }
  if (models.empty()) {
    std::printf("no models; add one: conclave model import FILE --name NAME\n");
    return 0;
  }
  std::vector<std::vector<std::string>> rows = {
      {"NAME", "ARCHITECTURE", "PARAMETERS", "SIZE", "CONTEXT", "VERSION"}};
  for (const auto& model : models) {
    rows.push_back(
        {model.name, model.architecture,
         fmt::format("{:.0f}M", static_cast<double>(model.parameters) / 1e6),
         FormatBytes(model.bytes), std::to_string(model.context),
         model.version.substr(0, 12)});
  }
  std::printf("%s", Table(rows).c_str());
  return 0;
}

absl::StatusOr<int> Show(const Options& options) {
  ASSIGN_OR_RETURN(auto connection, ConnectRegistry(options.connection));
  ASSIGN_OR_RETURN(const auto models, connection->client().ListModels(Soon()));
  std::vector<std::string> known;
  for (const auto& model : models) {
    if (model.name == options.name || model.version == options.name) {
      std::printf("%s\n", ToJson(model).dump(options.json ? -1 : 2).c_str());
      return 0;
    }
    known.push_back(model.name);
  }
  return NotFound("no model \"{}\".{}", options.name,
                  DidYouMean(options.name, known));
}

absl::StatusOr<int> Remove(const Options& options) {
  ASSIGN_OR_RETURN(auto connection, ConnectRegistry(options.connection));
  RETURN_IF_ERROR(connection->client().RemoveModel(
      options.name, options.expected_version, NewIdempotencyKey(), Soon()));
  if (!options.json) std::printf("removed %s\n", options.name.c_str());
  return 0;
}

}  // namespace

void AddModelCommand(CLI::App& app, Action& chosen) {
  CLI::App* model = app.add_subcommand("model", "Bring models in, list them");
  model->require_subcommand(1);
  auto options = std::make_shared<Options>();
  const auto verb = [&](const char* name, const char* help,
                        absl::StatusOr<int> (*run)(const Options&)) {
    CLI::App* command = model->add_subcommand(name, help);
    AddConnectionOptions(*command, options->connection, true);
    command->add_flag("--json", options->json, "Print JSON");
    command->final_callback(
        [options, run, &chosen] { chosen = [=] { return run(*options); }; });
    return command;
  };
  CLI::App* import =
      verb("import", "Import a GGUF file or a Hugging Face folder", Import);
  import->add_option("path", options->path, "FILE.gguf or folder")->required();
  import->add_option("--name", options->name, "What to call it")->required();
  verb("list", "List models", List);
  verb("show", "Show one model", Show)
      ->add_option("name", options->name, "Name or version")
      ->required();
  CLI::App* remove = verb("rm", "Remove a model that no expert uses", Remove);
  remove->add_option("name", options->name, "Name")->required();
  remove->add_option("--expected-version", options->expected_version,
                     "Only if it is still this version, as `show` gave it");
}

}  // namespace conclave::cli
