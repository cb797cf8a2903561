#include "kernels/gate/variants.h"

#include <string>

namespace conclave::kernels {
namespace {

constexpr GateVariant kVariants[] = {
    {"mixtral", "Mixtral of Experts", "gate.k=2 gate.weight=renorm"},
    {"olmoe", "OLMoE", "gate.k=8"},
    {"megablocks", "MegaBlocks", "gate.k=1 capacity.mode=dropless"},
    {"gshard", "GShard; what Buffer Overflow attacks",
     "gate.k=2 gate.weight=renorm capacity.mode=drop capacity.cf=1.25 "
     "capacity.scope=sequence"},
    {"expert_choice", "Mixture-of-Experts with Expert Choice Routing",
     "gate.select=expert_choice gate.cf=2 capacity.scope=sequence"},
    {"deepseek_moe", "DeepSeekMoE", "gate.k=6"},
    {"deepseek_v2", "DeepSeek-V2",
     "gate.k=6 gate.groups=8 gate.keep_groups=3 gate.group_score=max "
     "gate.weight_scale=16"},
    {"deepseek_v3", "DeepSeek-V3",
     "gate.score=sigmoid gate.k=8 gate.groups=8 gate.keep_groups=4 "
     "gate.group_score=sum_top2 gate.weight=renorm gate.weight_scale=2.5"},
    {"phi35_moe", "Phi-3.5-MoE; SparseMixer",
     "gate.score=sparsemixer gate.k=2"},
    {"adamoe", "AdaMoE", "gate.k=4 null.n=16 gate.weight=renorm"},
    {"dynamic", "Harder Tasks Need More Experts",
     "gate.select=topp gate.p=0.4"},
    {"aoe", "Autonomy-of-Experts", "gate.scorer=act_norm gate.k=2"},
    {"uoe_patch", "Union of Experts",
     "gate.select=patch_select gate.k=2 gate.cf=1 capacity.scope=sequence"},
    {"uoe_sequence", "Union of Experts",
     "gate.scorer=seq_flat gate.select=seq_select gate.k=2"},
    {"smear", "Soft Merging of Experts with Adaptive Routing",
     "gate.scorer=seq_mean gate.ln_input=true gate.ln_weight=true "
     "gate.select=soft_merge"},
    {"moec", "MoEC: Mixture of Expert Clusters",
     "gate.scorer=cosine gate.dim=32 gate.temp=0.07 gate.k=1 "
     "gate.weight=sigmoid_residual"},
    {"deep_moe", "Learning Factored Representations in a Deep MoE",
     "gate.scorer=mlp gate.dim=32 gate.select=all"},
    {"cumo", "CuMo", "gate.k=2 gate.weight=renorm"},
    {"nexus", "Nexus", "gate.scorer=domain_proj gate.k=1"},
};

}  // namespace

std::span<const GateVariant> GateVariants() { return kVariants; }

absl::StatusOr<GateConfig> GateOfVariant(std::string_view name,
                                         std::string_view more) {
  std::string known;
  for (const GateVariant& variant : kVariants) {
    if (variant.name == name) {
      ASSIGN_OR_RETURN(GateConfig config, ParseGateKeys(variant.keys));
      ASSIGN_OR_RETURN(config, ParseGateKeys(more, config));
      RETURN_IF_ERROR(ValidateGateConfig(config));
      return config;
    }
    known += known.empty() ? "" : ", ";
    known += variant.name;
  }
  return NotFound("no gate \"{}\"; there are {}", name, known);
}

}  // namespace conclave::kernels
