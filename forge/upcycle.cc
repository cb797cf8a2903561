#include "forge/upcycle.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "expert_workers/families/family.h"
#include "expert_workers/weights/hyperparameters.h"
#include "expert_workers/weights/unit_layout.h"
#include "kernels/packed_matrix.h"

namespace conclave::forge {
namespace {

using weights::DerivedUnit;
using weights::ModelManifest;
using weights::TensorInfo;
using weights::UnitInfo;

constexpr int64_t kMaxExperts = 256;

// A dense family -> the mixture whose attention is the same.
constexpr std::pair<std::string_view, std::string_view> kMixtureOf[] = {
    {"llama", "mixtral"}, {"qwen2", "qwen2moe"}, {"qwen3", "qwen3moe"}};

// The feed-forward half's tensors under an expert's names.
constexpr std::pair<std::string_view, std::string_view> kExpertTensors[] = {
    {"ffn_gate.weight", "ffn_gate_exps.weight"},
    {"ffn_up.weight", "ffn_up_exps.weight"},
    {"ffn_down.weight", "ffn_down_exps.weight"}};

absl::StatusOr<const families::Family*> MixtureOf(const ModelManifest& parent) {
  const std::string& architecture = parent.spec.hyperparameters.architecture;
  if (parent.spec.hyperparameters.moe.num_experts > 0) {
    return FailedPrecondition("it is a mixture of {} experts already",
                              parent.spec.hyperparameters.moe.num_experts);
  }
  for (const auto& [dense, mixture] : kMixtureOf) {
    if (dense == architecture) return families::FindFamily(mixture);
  }
  return Unimplemented(
      "no mixture of experts has {}'s attention; llama, qwen2 and qwen3 can be "
      "upcycled",
      architecture);
}

const UnitInfo* FindUnit(const ModelManifest& model, std::string_view name) {
  const auto it = std::ranges::find(model.units, name, &UnitInfo::name);
  return it == model.units.end() ? nullptr : &*it;
}

DerivedUnit Shared(const UnitInfo& unit) { return {unit, nullptr}; }

// The layer's feed-forward half as expert `expert`.
absl::StatusOr<DerivedUnit> ExpertUnit(const UnitInfo& half, int64_t layer,
                                       int64_t expert) {
  UnitInfo unit = half;
  unit.name = fmt::format("layer.{}.expert.{}", layer, expert);
  for (TensorInfo& tensor : unit.tensors) {
    const auto named = std::ranges::find_if(kExpertTensors, [&](auto& names) {
      return tensor.name == fmt::format("blk.{}.{}", layer, names.first);
    });
    if (named == std::end(kExpertTensors)) {
      return Unimplemented("an expert has no tensor like {}", tensor.name);
    }
    tensor.name =
        fmt::format("blk.{}.expert.{}.{}", layer, expert, named->second);
  }
  return Shared(unit);
}

// A counter's random number, uniform in [-1, 1).
float Uniform(uint64_t seed, uint64_t counter) {
  uint64_t x = seed + (counter + 1) * 0x9E3779B97F4A7C15;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EB;
  x ^= x >> 31;
  return static_cast<float>(static_cast<double>(x >> 11) * 0x1p-52 - 1.0);
}

absl::StatusOr<DerivedUnit> GateUnit(int64_t layer, int64_t num_experts,
                                     int64_t hidden_size, float deviation,
                                     uint64_t seed) {
  weights::UnitSource source{fmt::format("layer.{}.gate", layer), {}};
  weights::SourceTensor gate;
  gate.name = fmt::format("blk.{}.ffn_gate_inp.weight", layer);
  gate.rows = num_experts;
  gate.cols = hidden_size;
  source.tensors.push_back(std::move(gate));
  DerivedUnit unit;
  ASSIGN_OR_RETURN(unit.info, weights::PlanUnit(source));
  unit.fill = [=, tensor = unit.info.tensors.front()](
                  size_t record, std::span<std::byte> out) {
    std::memset(out.data(), 0, out.size());
    std::vector<float> rows;
    for (const weights::TensorRun& run : tensor.runs) {
      if (run.record != record) continue;
      std::byte* at = out.data() + run.offset;
      for (int64_t p = run.first_panel; p < run.first_panel + run.num_panels;
           ++p) {
        const int64_t first = p * kernels::kPanelRows;
        const int64_t count =
            std::min(kernels::kPanelRows, tensor.rows - first);
        rows.clear();
        for (int64_t i = 0; i < count * tensor.cols; ++i) {
          const auto counter = static_cast<uint64_t>(
              (layer * num_experts + first) * tensor.cols + i);
          rows.push_back(Uniform(seed, counter) * deviation * std::sqrt(3.0f));
        }
        kernels::PackPanel(tensor.type, std::as_bytes(std::span(rows)).data(),
                           count, tensor.cols, at);
        at += kernels::PanelBytes(tensor.type, tensor.cols);
      }
    }
    return absl::OkStatus();
  };
  return unit;
}

std::string Lineage(const ModelManifest& parent, const std::string& name,
                    const UpcycleOptions& options) {
  return nlohmann::ordered_json{
      {"operation", "upcycle"},
      {"parents", {{{"name", name}, {"version", parent.version}}}},
      {"arguments",
       {{"experts", options.num_experts},
        {"top_k", options.experts_per_token},
        {"gate_deviation", options.gate_deviation},
        {"seed", options.seed}}}}
      .dump();
}

}  // namespace

absl::StatusOr<weights::DerivedModel> Upcycle(
    const weights::ModelManifest& parent, const std::string& parent_name,
    const UpcycleOptions& options) {
  if (options.num_experts < 2 || options.num_experts > kMaxExperts) {
    return InvalidArgument("{} experts; a mixture may have 2..{}",
                           options.num_experts, kMaxExperts);
  }
  if (options.experts_per_token < 1 ||
      options.experts_per_token > options.num_experts) {
    return InvalidArgument("top-{} of {} experts", options.experts_per_token,
                           options.num_experts);
  }
  if (!(options.gate_deviation >= 0 && options.gate_deviation <= 1)) {
    return InvalidArgument("a gate deviation of {}; it must be 0..1",
                           options.gate_deviation);
  }
  ASSIGN_OR_RETURN(const families::Family* family, MixtureOf(parent));
  weights::DerivedModel child;
  child.spec = parent.spec;
  weights::ModelHyperparameters& model = child.spec.hyperparameters;
  model.architecture = family->architecture;
  model.moe = {.num_experts = options.num_experts,
               .experts_per_token = options.experts_per_token,
               .intermediate_size = model.intermediate_size,
               .renormalize = true};
  RETURN_IF_ERROR(weights::CheckHyperparameters(*family, model));
  child.lineage = Lineage(parent, parent_name, options);
  child.source = fmt::format("upcycle of {}", parent_name);
  for (const UnitInfo& unit : parent.units) {
    if (!unit.name.ends_with(".ffn")) child.units.push_back(Shared(unit));
  }
  for (int64_t i = 0; i < model.num_layers; ++i) {
    const UnitInfo* half = FindUnit(parent, fmt::format("layer.{}.ffn", i));
    if (half == nullptr) {
      return FailedPrecondition(
          "layer {} is stored as one unit, as an earlier program did it: "
          "import the model again, under another name",
          i);
    }
    ASSIGN_OR_RETURN(DerivedUnit gate,
                     GateUnit(i, options.num_experts, model.hidden_size,
                              options.gate_deviation, options.seed));
    child.units.push_back(std::move(gate));
    for (int64_t e = 0; e < options.num_experts; ++e) {
      ASSIGN_OR_RETURN(DerivedUnit expert, ExpertUnit(*half, i, e));
      child.units.push_back(std::move(expert));
    }
  }
  return child;
}

}  // namespace conclave::forge
