// Logits from activations: the first stage of a gate. Formulas, with x a
// token's row, d = hidden_size, E experts:
//
//   linear       W x + b; null experts have rows of W, or a matrix of their own
//                (AdaMoE: a trained router is then left as it was)
//   cosine       cos(R x, w_e) / temp                           (MoEC; X-MoE)
//   mlp          W2 relu(W1 x + b1)                             (Deep MoE)
//   act_norm     |D_e x|, the norm of expert e's own low-rank product, which
//                the plan hands on as `pre`       (Autonomy-of-Experts)
//   domain_proj  x . e_e, e_e from domain_projection.h           (Nexus)
//   seq_mean     LN(mean of x over the sequence) . LN(w_e)       (SMEAR)
//   seq_flat     w_e . (x_0, x_1, ...), at most `length` tokens (Union-of-
//                Experts); a shorter sequence counts as zeros beyond its end
//
// Products run through Ops::matmul or in one fixed order in double: a row of
// logits is a function of its token (its sequence) alone.
#ifndef CONCLAVE_KERNELS_GATE_SCORER_H_
#define CONCLAVE_KERNELS_GATE_SCORER_H_

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/gate/gate.h"
#include "kernels/ops.h"

namespace conclave::kernels {

// Views; they outlive the scorer. What a scorer does not name stays empty.
struct ScorerParams {
  // linear [E or num_columns, d]; cosine's R [dim, d]; mlp's W1 [dim, d];
  // act_norm's D [E * d_low, d]
  PackedMatrix weight;
  PackedMatrix null_weight;     // linear [num_null, d]; 0 rows: in `weight`
  PackedMatrix out;             // mlp's W2 [num_columns, dim]
  std::span<const float> bias;  // linear [num_columns]; mlp's b1 [dim]
  // cosine [num_columns, dim]; domain_proj, seq_mean [num_columns, d];
  // seq_flat [num_columns, length * d]
  std::span<const float> rows;
  // seq_mean's norm gains [d]; empty: 1
  std::span<const float> input_gain;
  std::span<const float> weight_gain;
};

// Threads: one call of Score at a time.
class GateScorer {
 public:
  //   INVALID_ARGUMENT  a parameter of the wrong shape, named
  static absl::StatusOr<GateScorer> Create(const GateConfig& config,
                                           int64_t hidden_size,
                                           const ScorerParams& params,
                                           const Ops& ops);

  // Fills input->logits and, for act_norm, input->pre, with views that live
  // until the next call. `x` has its int8 form; input's other members are set.
  //   INVALID_ARGUMENT  seq_flat: a sequence is longer than `length`
  absl::Status Score(const Activations& x, GateInput* input);

 private:
  using Run = absl::Status (GateScorer::*)(const Activations& x,
                                           const GateInput& input);
  struct Row;  // of the table of scorers
  static const Row& RowOf(ScorerKind kind);

  GateScorer(const GateConfig& config, int64_t hidden_size,
             const ScorerParams& params, const Ops& ops);

  absl::Status CheckMatrix(std::string_view what, const PackedMatrix& matrix,
                           int64_t rows, int64_t cols) const;
  absl::Status CheckLinear() const;
  absl::Status CheckCosine() const;
  absl::Status CheckMlp() const;
  absl::Status CheckActNorm() const;
  absl::Status CheckRows() const;
  absl::Status CheckFlat() const;

  absl::Status Linear(const Activations& x, const GateInput& input);
  absl::Status Cosine(const Activations& x, const GateInput& input);
  absl::Status Mlp(const Activations& x, const GateInput& input);
  absl::Status ActNorm(const Activations& x, const GateInput& input);
  absl::Status DomainProj(const Activations& x, const GateInput& input);
  absl::Status SeqMean(const Activations& x, const GateInput& input);
  absl::Status SeqFlat(const Activations& x, const GateInput& input);

  // product_ [m, weight.rows] = x weight^T
  void Multiply(const Activations& x);
  // The token's logits are rows_ . v.
  void DotRows(const float* v, int64_t n, int64_t row);

  GateConfig config_;
  int64_t hidden_size_;
  ScorerParams params_;
  const Ops* ops_;
  std::vector<float> rows_;    // params_.rows, normed where that is asked for
  std::vector<double> norms_;  // cosine: of each row
  std::vector<float> logits_;
  std::vector<float> product_;
  std::vector<double> mean_;
  std::vector<float> vector_;
  Activations hidden_;
};

}  // namespace conclave::kernels

#endif  // CONCLAVE_KERNELS_GATE_SCORER_H_
