// The parts that decoder families are made of. Each part is a stretch of a
// step between two barriers, or a few, over all rows at once; it cuts its work
// over panels, heads or rows and never over a sum.
//
// A part takes and leaves its data in named scratch (x, hidden, qkv, ...):
// buffers are grown once and used by every layer.
#ifndef CONCLAVE_EXPERT_WORKERS_ENGINE_FAMILIES_BLOCKS_H_
#define CONCLAVE_EXPERT_WORKERS_ENGINE_FAMILIES_BLOCKS_H_

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "base/status.h"
#include "expert_workers/engine/compute.h"
#include "expert_workers/engine/families/language_model.h"
#include "expert_workers/weights/model_spec.h"
#include "kernels/ops.h"

namespace conclave::engine {

// The shapes that every part here relies on.
//   INVALID_ARGUMENT  zero, negative, or not multiples of what kernels need
absl::Status CheckDecoderShapes(const weights::ModelHyperparameters& model);

struct QkvWeights {
  kernels::PackedMatrix q, k, v;
  // nullptr: no bias
  const float* q_bias = nullptr;
  const float* k_bias = nullptr;
  const float* v_bias = nullptr;
};

class DecoderBlocks {
 public:
  DecoderBlocks(const weights::ModelHyperparameters& model,
                const kernels::Ops& ops)
      : model_(model), ops_(ops) {}

  // Begins a step: x [m, hidden_size] = the tokens' embeddings.
  void Embed(const Batch& batch, const kernels::PackedMatrix& embedding,
             Compute* compute);

  // hidden = rms_norm(x) * weight, ready for a projection.
  void Norm(const float* weight);
  // q, k, v = projections of hidden, with their biases.
  void ProjectQkv(const QkvWeights& weights);
  // Rotates q and k by position; stores k and v in `layer`'s pages.
  void RotateAndStore(const KvCache& cache, int64_t layer,
                      const kernels::RopeTable& rope);
  // attended = softmax(q k / sqrt(head_dim)) v, causal.
  void Attend(const KvCache& cache, int64_t layer);
  // x += weight attended.
  void AddProjectedAttention(const kernels::PackedMatrix& weight);
  // activated = silu(gate hidden) * (up hidden).
  void SwiGlu(const kernels::PackedMatrix& gate,
              const kernels::PackedMatrix& up);
  // x += weight activated.
  void AddProjectedActivation(const kernels::PackedMatrix& weight);

  // Ends a step: keeps rms_norm(x) * weight of the rows that want logits.
  void KeepFinal(const float* weight);
  void Logits(const kernels::PackedMatrix& head, int64_t begin, int64_t end,
              Compute* compute, float* out);

 private:
  struct Projection {
    const kernels::PackedMatrix* weight;
    float* out;
    int64_t stride;
    // Called after rows [16 begin, 16 end) of the output are written, by the
    // thread that wrote them.
    std::function<void(int64_t panel_begin, int64_t panel_end)> then;
  };

  int64_t m() const { return static_cast<int64_t>(batch_->tokens.size()); }
  // On one thread when there is little to do: a barrier costs more.
  void ForRows(const std::function<void(int64_t, int64_t)>& body);
  // All `projections` of `in` between two barriers.
  void Project(const kernels::Activations& in,
               std::span<const Projection> projections, Compute* compute);
  // x += weight in.
  void AddProjected(kernels::Activations& in,
                    const kernels::PackedMatrix& weight);

  const weights::ModelHyperparameters model_;
  const kernels::Ops& ops_;

  const Batch* batch_ = nullptr;
  Compute* compute_ = nullptr;
  std::vector<float> x_;                // [m, hidden_size]
  kernels::Activations hidden_;         // [m, hidden_size]
  std::vector<float> qkv_;              // [m, q | k | v]
  kernels::Activations attended_;       // [m, num_heads * head_dim]
  std::vector<float> gate_, up_;        // [m, intermediate_size]
  kernels::Activations activated_;      // [m, intermediate_size]
  std::vector<float> projected_;        // [m, hidden_size]
  kernels::Activations final_;          // [num logit rows, hidden_size]
  kernels::Activations final_part_;     // those of one Logits call
};

}  // namespace conclave::engine

#endif  // CONCLAVE_EXPERT_WORKERS_ENGINE_FAMILIES_BLOCKS_H_
