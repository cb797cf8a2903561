#include "kernels/gate/score.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/logits_math.h"

namespace conclave::kernels {
namespace {

constexpr float kNever = -std::numeric_limits<float>::infinity();

void ScoreSoftmax(std::span<const float> /*correction*/, ScoredRow* row) {
  const float max = *std::max_element(row->logits.begin(), row->logits.end());
  ExpWeights(row->logits, max, 1.0, row->odds.data());
  double total = 0;
  for (const double odds : row->odds) total += odds;
  row->total = total;
  std::copy(row->logits.begin(), row->logits.end(), row->keys.begin());
}

void ScoreSigmoid(std::span<const float> correction, ScoredRow* row) {
  for (size_t c = 0; c < row->logits.size(); ++c) {
    const bool open = row->logits[c] != kNever;
    const double odds = open ? Sigmoid(double{row->logits[c]}) : 0.0;
    row->odds[c] = odds;
    const auto key = static_cast<float>(odds);
    row->keys[c] = !open                ? kNever
                   : correction.empty() ? key
                                        : key + correction[c];
  }
  row->total = 1;
}

double PlainShare(const ScoredRow& row, std::span<const int32_t> chosen,
                  size_t rank, float /*jitter*/) {
  return row.odds[static_cast<size_t>(chosen[rank])] / row.total;
}

double SparsemixerShare(const ScoredRow& row, std::span<const int32_t> chosen,
                        size_t rank, float jitter) {
  const float best = row.logits[static_cast<size_t>(chosen[rank])];
  const auto before = chosen.first(rank);
  double total = 0;
  for (size_t c = 0; c < row.logits.size(); ++c) {
    const float logit = row.logits[c];
    if (logit == kNever) continue;
    if (std::find(before.begin(), before.end(), static_cast<int32_t>(c)) !=
        before.end()) {
      continue;
    }
    const float factor = std::max(std::abs(logit), best);
    // A forced expert may have better ones beside it; they take no part.
    if (logit > best || (best - logit) / factor > 2 * jitter) continue;
    double odds = 0;
    ExpWeights({&logit, 1}, best, 1.0, &odds);
    total += odds;
  }
  return 1 / total;
}

constexpr ScoreStage kSoftmaxStage = {ScoreSoftmax, PlainShare};
constexpr ScoreStage kSigmoidStage = {ScoreSigmoid, PlainShare};
constexpr ScoreStage kSparsemixerStage = {ScoreSoftmax, SparsemixerShare};

}  // namespace

const ScoreStage& ScoreStageOf(ScoreKind kind) {
  switch (kind) {
    case ScoreKind::kSoftmax:
      return kSoftmaxStage;
    case ScoreKind::kSigmoid:
      return kSigmoidStage;
    case ScoreKind::kSparsemixer:
      break;
  }
  return kSparsemixerStage;
}

double Sigmoid(double x) {
  const float minus = -static_cast<float>(std::abs(x));
  double small = 0;
  ExpWeights({&minus, 1}, 0.0f, 1.0, &small);
  return (x < 0 ? small : 1.0) / (1 + small);
}

}  // namespace conclave::kernels
