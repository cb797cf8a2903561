// From one row of logits to what selection compares and what weights are made
// of. In double, by our own exp, in one fixed order: the bits depend on the row
// alone. Softmax is kept as odds and their total, so that weights made to sum
// to 1 over the chosen are rounded once.
//
//   softmax      odds e^(l - max), total their sum; keys are the logits
//   sigmoid      odds 1 / (1 + e^-l), total 1; keys odds + correction
//                (DeepSeek-V3's e_score_correction_bias chooses, never weighs)
//   sparsemixer  keys are the logits; the r-th chosen's share is its softmax
//                among the columns not chosen before and not far below it
//                (Phi-3.5-MoE; arXiv 2310.00811)
//
// A logit of -infinity is a column that may not be chosen: odds 0, key
// -infinity.
#ifndef CONCLAVE_KERNELS_GATE_SCORE_H_
#define CONCLAVE_KERNELS_GATE_SCORE_H_

#include <cstdint>
#include <span>

#include "kernels/gate/gate_config.h"

namespace conclave::kernels {

struct ScoredRow {
  std::span<const float> logits;  // [num_columns]; one at least is finite
  std::span<float> keys;          // [num_columns]
  std::span<double> odds;         // [num_columns]
  double total = 0;
};

// A row of the table of scores.
struct ScoreStage {
  // Fills keys, odds, total. `correction` [num_columns] or empty.
  void (*score)(std::span<const float> correction, ScoredRow* row);
  // The share of chosen[rank], among columns chosen in this order.
  double (*share)(const ScoredRow& row, std::span<const int32_t> chosen,
                  size_t rank, float jitter);
};

const ScoreStage& ScoreStageOf(ScoreKind kind);

// 1 / (1 + e^-x) by our own exp.
double Sigmoid(double x);

}  // namespace conclave::kernels

#endif  // CONCLAVE_KERNELS_GATE_SCORE_H_
