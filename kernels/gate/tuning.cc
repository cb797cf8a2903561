#include "kernels/gate/tuning.h"

#include <algorithm>
#include <cmath>

namespace conclave::kernels {
namespace {

// Larger than any gate's logits; finite sums stay finite.
constexpr float kMaxBias = 1e4f;

absl::Status CheckIds(const GateConfig& config, std::string_view what,
                      const std::vector<int32_t>& ids) {
  for (auto id = ids.begin(); id != ids.end(); ++id) {
    if (*id < 0 || *id >= config.num_columns()) {
      return InvalidArgument("{}: no expert {}; there are 0..{}", what, *id,
                             config.num_columns() - 1);
    }
    if (std::find(ids.begin(), id, *id) != id) {
      return InvalidArgument("{}: expert {} comes twice", what, *id);
    }
  }
  return absl::OkStatus();
}

bool Ranks(SelectKind select) {
  return select == SelectKind::kTopK || select == SelectKind::kTopP ||
         select == SelectKind::kSeqSelect;
}

}  // namespace

absl::Status CheckGateTuning(const GateConfig& config,
                             const GateTuning& tuning) {
  RETURN_IF_ERROR(CheckIds(config, "ban", tuning.ban));
  RETURN_IF_ERROR(CheckIds(config, "force", tuning.force));
  if (static_cast<int64_t>(tuning.ban.size()) == config.num_columns()) {
    return InvalidArgument("all {} experts are banned: none is left",
                           config.num_columns());
  }
  for (const int32_t id : tuning.force) {
    if (std::find(tuning.ban.begin(), tuning.ban.end(), id) !=
        tuning.ban.end()) {
      return InvalidArgument("expert {} is both banned and forced", id);
    }
  }
  for (const auto& [id, bias] : tuning.bias) {
    if (id < 0 || id >= config.num_columns()) {
      return InvalidArgument("bias: no expert {}; there are 0..{}", id,
                             config.num_columns() - 1);
    }
    if (!(std::abs(bias) <= kMaxBias)) {
      return InvalidArgument("bias of expert {}: {}, within {}", id, bias,
                             kMaxBias);
    }
  }
  if (!Ranks(config.select) &&
      (!tuning.force.empty() || tuning.top_p || tuning.k)) {
    return InvalidArgument(
        "force, top_p and k are for gates where a token ranks experts (topk, "
        "topp, seq_select); this one's gate.select is {}",
        Name(config.select));
  }
  if (config.score == ScoreKind::kSparsemixer && tuning.top_p) {
    return InvalidArgument(
        "top_p: a sparsemixer's weights are no distribution");
  }
  if (config.weight == WeightKind::kSigmoidResidual &&
      tuning.k.value_or(1) != 1) {
    return InvalidArgument("k={}: a sigmoid_residual gate chooses one",
                           *tuning.k);
  }
  if (tuning.top_p && !(*tuning.top_p >= 0 && *tuning.top_p <= 1)) {
    return InvalidArgument("top_p={}: 0..1", *tuning.top_p);
  }
  if (tuning.k && (*tuning.k < 1 || *tuning.k > config.num_columns())) {
    return InvalidArgument("k={}: 1..{}", *tuning.k, config.num_columns());
  }
  const int64_t most =
      config.select == SelectKind::kTopP
          ? (config.k_max > 0 ? config.k_max : config.num_columns())
          : config.k;
  const int64_t k = tuning.k.value_or(most);
  if (Ranks(config.select) && static_cast<int64_t>(tuning.force.size()) > k) {
    return InvalidArgument("{} experts are forced and a token has {}",
                           tuning.force.size(), k);
  }
  return absl::OkStatus();
}

}  // namespace conclave::kernels
