#include "kernels/gate/caps.h"

namespace conclave::kernels {
namespace {

// Why a token's plan depends on more than the token.
std::string_view Reason(const GateConfig& config) {
  switch (config.select) {
    case SelectKind::kExpertChoice:
      return "experts choose among all tokens, later ones included";
    case SelectKind::kPatchSelect:
      return "experts keep their best tokens of all, later ones included";
    case SelectKind::kSeqSelect:
      return "experts are chosen for a whole sequence, of which a decoder has "
             "only the beginning";
    case SelectKind::kSoftMerge:
      return "weights are merged for a whole sequence, of which a decoder has "
             "only the beginning";
    case SelectKind::kTopK:
    case SelectKind::kTopP:
    case SelectKind::kAll:
      break;
  }
  return "capacity.mode=drop drops a token when others fill its expert";
}

std::string_view Instead(const GateConfig& config) {
  if (config.select == SelectKind::kSoftMerge) {
    return "bake the mean mixture into one dense expert, or keep it on an "
           "encoder";
  }
  if (config.capacity == CapacityMode::kDrop) {
    return "use capacity.mode=dropless";
  }
  return "use gate.select=topk or topp with capacity.mode=dropless, or keep it "
         "on an encoder";
}

}  // namespace

GateCaps CapsOf(const GateConfig& config) {
  GateCaps caps;
  if (config.scores_sequences()) caps.scope = Scope::kSequence;
  if (config.capacity == CapacityMode::kDrop ||
      config.select == SelectKind::kExpertChoice ||
      config.select == SelectKind::kPatchSelect) {
    caps.scope = config.capacity_scope;
  }
  // Whatever compares tokens also counts those to come.
  caps.causal = caps.scope == Scope::kToken;
  caps.has_precompute = config.scorer == ScorerKind::kActNorm;
  return caps;
}

absl::Status CheckDecoding(const GateConfig& config) {
  RETURN_IF_ERROR(ValidateGateConfig(config));
  const GateCaps caps = CapsOf(config);
  if (caps.causal) return absl::OkStatus();
  return FailedPrecondition(
      "this gate cannot decode: {} (scope={}){}; {}", Reason(config),
      Name(caps.scope),
      caps.scope == Scope::kBatch
          ? ", and one request's tokens would change another's answer"
          : "",
      Instead(config));
}

absl::Status CheckEncoding(const GateConfig& config) {
  RETURN_IF_ERROR(ValidateGateConfig(config));
  if (CapsOf(config).scope != Scope::kBatch) return absl::OkStatus();
  return FailedPrecondition(
      "this gate cannot serve: {} (scope=batch), so that one request's tokens "
      "change another's result; use capacity.scope=request",
      Reason(config));
}

}  // namespace conclave::kernels
