// What a gate is: one choice for each stage of the pipeline
//
//   Scorer -> Mask -> Score -> Select -> Capacity -> Weight -> RoutingPlan
//
// and the numbers that go with it. A published mixture is a row of such
// choices (variants.h); no stage and no kernel knows a variant's name.
//
// Words: a *column* is an id that the gate scores, [0, num_experts) for real
// experts and [num_experts, num_columns()) for null ones, which compute
// nothing (AdaMoE). A *segment* is the set of tokens that a stage compares
// with one another: those of a sequence, of a request, or of the batch.
#ifndef CONCLAVE_KERNELS_GATE_GATE_CONFIG_H_
#define CONCLAVE_KERNELS_GATE_GATE_CONFIG_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace conclave::kernels {

// Where a token's (or a sequence's) logits come from; scorer.h has formulas.
enum class ScorerKind {
  kLinear,
  kCosine,
  kMlp,
  kActNorm,
  kDomainProj,
  kSeqMean,  // one row of logits a sequence
  kSeqFlat,  // one row of logits a sequence
};

// From logits to odds and selection keys; score.h.
enum class ScoreKind { kSoftmax, kSigmoid, kSparsemixer };

enum class SelectKind {
  kTopK,
  kTopP,
  kExpertChoice,
  kPatchSelect,
  kSeqSelect,
  kSoftMerge,
  kAll,
};

enum class WeightKind {
  kRaw,              // the score
  kRenorm,           // the score over the sum of the selected real ones
  kOne,              // 1
  kSigmoidResidual,  // sigmoid(logit); the token keeps 1 less that (MoEC)
};

enum class GroupScore {
  kMax,      // DeepSeek-V2: a group is as good as its best expert
  kSumTop2,  // DeepSeek-V3: as the sum of its two best
};

enum class CapacityMode { kDropless, kDrop };
// Who goes first when an expert has more tokens than room.
enum class CapacityOrder { kIndex, kPriority, kRandom };

// Whose tokens may change a token's plan; ordered, narrowest first.
enum class Scope { kToken, kSequence, kRequest, kBatch };

// Group scores are kept on the stack. DeepSeek-V3 has 8 groups.
inline constexpr int64_t kMaxGroups = 64;

struct GateConfig {
  int64_t num_experts = 0;  // experts.n
  // experts.alias: the expert whose weights column i uses; empty: its own.
  std::vector<int32_t> alias;
  int64_t d_low = 0;     // experts.d_low: width of act_norm's product
  int64_t num_null = 0;  // null.n

  ScorerKind scorer = ScorerKind::kLinear;
  // Of cosine: what the cosine is divided by. A learned one is read here.
  float temp = 1.0f;
  int64_t dim = 0;  // cosine: of the reduced space; mlp: hidden width
  // Of seq_mean: layer norm (no bias) of the mean, of the gate's rows.
  bool ln_input = false;
  bool ln_weight = false;

  ScoreKind score = ScoreKind::kSoftmax;
  // Sparsemixer: a column further below the best than twice this share of
  // their larger magnitude has no part in the softmax.
  float jitter = 0.01f;

  SelectKind select = SelectKind::kTopK;
  int64_t k = 0;      // topk, patch_select, seq_select
  double p = 0.0;     // topp: the mass to exceed
  int64_t k_max = 0;  // topp: at most so many; 0: all columns
  // expert_choice, patch_select: an expert takes cf times an even share.
  double cf = 0.0;
  int64_t min_capacity = 0;  // expert_choice

  int64_t num_groups = 1;   // equal runs of consecutive columns
  int64_t keep_groups = 1;  // those that selection looks into
  GroupScore group_score = GroupScore::kMax;

  WeightKind weight = WeightKind::kRaw;
  double weight_scale = 1.0;  // routed_scaling_factor; n of Union-of-Experts

  CapacityMode capacity = CapacityMode::kDropless;
  double capacity_factor = 0.0;  // capacity.cf
  CapacityOrder capacity_order = CapacityOrder::kIndex;
  // Segments of capacity, expert_choice and patch_select.
  Scope capacity_scope = Scope::kSequence;

  // A scope of kBatch lets one request's tokens change another's output.
  bool allow_cross_request = false;

  int64_t num_columns() const { return num_experts + num_null; }
  // Whether logits come one row a sequence.
  bool scores_sequences() const {
    return scorer == ScorerKind::kSeqMean || scorer == ScorerKind::kSeqFlat;
  }

  bool operator==(const GateConfig&) const = default;
};

// INVALID_ARGUMENT, saying which key is wrong and what would be right.
absl::Status ValidateGateConfig(const GateConfig& config);

// Reads `key=value` words separated by white space, as in
//   "experts.n=64 gate.select=topk gate.k=8 gate.weight=renorm"
// on top of `base`, without validating (a row of the table has no experts.n).
// Keys may carry the prefix "moe."; lists are "0,0,2,2".
//   INVALID_ARGUMENT  unknown key or word, number out of range
absl::StatusOr<GateConfig> ParseGateKeys(std::string_view text,
                                         const GateConfig& base = {});
// The same, validated: what a file or a request hands in.
absl::StatusOr<GateConfig> ParseGateConfig(std::string_view text);

std::string_view Name(ScorerKind kind);
std::string_view Name(ScoreKind kind);
std::string_view Name(SelectKind kind);
std::string_view Name(WeightKind kind);
std::string_view Name(CapacityOrder order);
std::string_view Name(Scope scope);

}  // namespace conclave::kernels

#endif  // CONCLAVE_KERNELS_GATE_GATE_CONFIG_H_
