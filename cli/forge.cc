// conclave forge upcycle: new models out of stored ones.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

#include "base/units.h"
#include "cli/commands.h"
#include "cli/connection.h"
#include "cli/data_dir.h"
#include "cli/terminal.h"
#include "forge/upcycle.h"

namespace conclave::cli {
namespace {

struct Options {
  std::string data_dir;
  std::string parent;
  std::string name;
  forge::UpcycleOptions upcycle;
  bool json = false;
};

void Print(const Options& options, const weights::ModelEntry& entry,
           const weights::ModelManifest& manifest) {
  if (options.json) {
    const nlohmann::ordered_json line = {
        {"name", entry.name},
        {"version", entry.version},
        {"architecture", entry.architecture},
        {"parameters", entry.parameters},
        {"lineage", nlohmann::ordered_json::parse(manifest.lineage)}};
    std::printf("%s\n", line.dump().c_str());
    return;
  }
  std::printf(
      "made %s: %s, %.0fM parameters, version %.12s, out of %s\n"
      "serve it: conclave expert add %s --model %s --category CATEGORY\n",
      entry.name.c_str(), entry.architecture.c_str(),
      static_cast<double>(entry.parameters) / 1e6, entry.version.c_str(),
      options.parent.c_str(), entry.name.c_str(), entry.name.c_str());
}

absl::StatusOr<int> RunUpcycle(const Options& options) {
  absl::StatusOr<std::unique_ptr<DataDir>> data = DataDir::Open(
      options.data_dir.empty() ? DefaultDataDir() : options.data_dir);
  if (!data.ok()) {
    return Annotate(data.status(),
                    "forge works on the data directory itself, while no "
                    "service runs on it");
  }
  weights::WeightStore& store = (*data)->weights();
  ASSIGN_OR_RETURN(const auto parent, store.Manifest(options.parent));
  absl::StatusOr<weights::DerivedModel> child =
      forge::Upcycle(*parent, options.parent, options.upcycle);
  if (!child.ok()) return Annotate(child.status(), options.parent);
  absl::StatusOr<weights::ModelEntry> entry;
  {
    ProgressBar bar("upcycle " + options.parent);
    entry = store.Derive(*child, options.name, [&](int64_t done, int64_t all) {
      bar.Update(done, all);
      return absl::OkStatus();
    });
  }
  RETURN_IF_ERROR(entry.status());
  ASSIGN_OR_RETURN(const auto manifest, store.Manifest(entry->version));
  RETURN_IF_ERROR((*data)->registry().PutModel(
      {.name = entry->name,
       .version = entry->version,
       .architecture = entry->architecture,
       .bytes = entry->total_bytes,
       .parameters = entry->parameters,
       .context = manifest->spec.hyperparameters.max_context,
       .source = entry->source}));
  Print(options, *entry, *manifest);
  return 0;
}

}  // namespace

void AddForgeCommand(CLI::App& app, Action& chosen) {
  CLI::App* forge =
      app.add_subcommand("forge", "Make new models out of stored ones");
  forge->require_subcommand(1);
  auto options = std::make_shared<Options>();
  CLI::App* upcycle = forge->add_subcommand(
      "upcycle",
      "A mixture of experts out of a dense model: it answers as its parent "
      "does, costs no space beside it, and is there to be trained");
  upcycle->add_option("parent", options->parent, "A dense model's name")
      ->required();
  upcycle->add_option("--name", options->name, "What to call the new model")
      ->required();
  upcycle->add_option("--experts", options->upcycle.num_experts,
                      "Experts a layer, 2..256 (8)");
  upcycle->add_option("--top-k", options->upcycle.experts_per_token,
                      "Experts that compute a token (2)");
  upcycle->add_option("--gate-deviation", options->upcycle.gate_deviation,
                      "Of the gates' values: 0 answers with the parent's very "
                      "bits, 0.02 is for training (0)");
  upcycle->add_option("--seed", options->upcycle.seed, "Of the gates (0)");
  upcycle->add_option("--data-dir", options->data_dir,
                      "Where models are kept (" + DefaultDataDir() + ")");
  upcycle->add_flag("--json", options->json, "Print JSON");
  upcycle->final_callback(
      [options, &chosen] { chosen = [=] { return RunUpcycle(*options); }; });
}

}  // namespace conclave::cli
