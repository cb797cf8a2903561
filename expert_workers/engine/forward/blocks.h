// The parts that decoder families are made of (families/decoder_parts.h says
// what each computes). A part is a stretch of a step between two barriers, or a
// few, over all rows at once; it cuts its work over panels, heads or rows and
// never over a sum. Its scratch is grown once and used by every layer.
#ifndef CONCLAVE_EXPERT_WORKERS_ENGINE_FORWARD_BLOCKS_H_
#define CONCLAVE_EXPERT_WORKERS_ENGINE_FORWARD_BLOCKS_H_

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "expert_workers/engine/compute.h"
#include "expert_workers/engine/forward/experts.h"
#include "expert_workers/engine/forward/language_model.h"
#include "expert_workers/families/decoder_parts.h"
#include "expert_workers/weights/model_spec.h"
#include "kernels/ops.h"

namespace conclave::engine {

// Where a layer's rows live and how its attention looks.
struct LayerPlace {
  const KvCache* cache = nullptr;
  int64_t index = 0;
  const kernels::RopeTable* rope = nullptr;
  float attention_scale = 1.0f;
  int64_t window = 0;  // tokens; 0: all
};

class DecoderBlocks final : public families::DecoderParts {
 public:
  DecoderBlocks(const weights::ModelHyperparameters& model,
                const kernels::Ops& ops)
      : model_(model), ops_(ops), experts_(model, ops) {}

  // Of a family with experts, before its first step: see ExpertBlocks.
  absl::Status SetGate(const kernels::GateConfig& config) {
    return experts_.SetGate(config);
  }

  // Begins a step: x [m, hidden_size] = the tokens' embeddings * scale.
  void Embed(const Batch& batch, const kernels::PackedMatrix& embedding,
             float scale, Compute* compute);
  // What the parts below refer to until the next call.
  void EnterLayer(const LayerPlace& place) { place_ = place; }

  void Norm(const float* weight) override;
  void ProjectQkv(const families::AttentionTensors& tensors) override;
  void NormQueryAndKey(const float* query, const float* key) override;
  void NormWholeQueryAndKey(const float* query, const float* key) override;
  void RotateAndStore() override;
  void Attend() override;
  void AddAttention(const families::AttentionTensors& tensors) override;
  void AddNormedAttention(const families::AttentionTensors& tensors,
                          const float* norm) override;
  void GatedUp(families::Activation activation,
               const families::FeedForwardTensors& tensors) override;
  void Route(const families::MoeTensors& tensors) override;
  void AddExperts(const families::MoeTensors& tensors) override;
  void AddSharedExpert(const families::SharedExpertTensors& tensors) override;
  void AddFeedForward(const families::FeedForwardTensors& tensors) override;
  void AddNormedFeedForward(const families::FeedForwardTensors& tensors,
                            const float* norm) override;

  // Rows of the step that have failed so far.
  std::span<const RowFailure> failures() const { return experts_.failures(); }

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
  // The same with a bias, which may be nullptr.
  Projection WithBias(const kernels::PackedMatrix& weight, const float* bias,
                      float* out, int64_t stride);
  bool HeadsAreWholeBlocks() const;
  // The int8 form of `attended`, where Attend could not leave it.
  void FinishAttended();
  // x += weight in + bias; `in` has its int8 form.
  void AddProjected(kernels::Activations& in,
                    const kernels::PackedMatrix& weight, const float* bias);
  // x += rms_norm(weight in) * norm: a barrier more, for a norm needs whole
  // rows.
  void AddNormed(kernels::Activations& in, const kernels::PackedMatrix& weight,
                 const float* norm);

  const weights::ModelHyperparameters model_;
  const kernels::Ops& ops_;

  int64_t QuerySize() const { return model_.num_heads * model_.head_dim; }
  int64_t KeySize() const { return model_.num_kv_heads * model_.head_dim; }
  // Of a row of q | k | v.
  int64_t QkvStride() const { return QuerySize() + 2 * KeySize(); }

  ExpertBlocks experts_;
  std::vector<float> gate_logits_;  // [m, num_experts]

  LayerPlace place_;
  const Batch* batch_ = nullptr;
  Compute* compute_ = nullptr;
  std::vector<float> x_;             // [m, hidden_size]
  kernels::Activations hidden_;      // [m, hidden_size]
  std::vector<float> qkv_;           // [m, q | k | v]
  kernels::Activations attended_;    // [m, num_heads * head_dim]
  std::vector<float> gate_, up_;     // [m, intermediate_size]
  kernels::Activations activated_;   // [m, intermediate_size]
  std::vector<float> projected_;     // [m, hidden_size]
  kernels::Activations final_;       // [num logit rows, hidden_size]
  kernels::Activations final_part_;  // those of one Logits call
};

}  // namespace conclave::engine

#endif  // CONCLAVE_EXPERT_WORKERS_ENGINE_FORWARD_BLOCKS_H_
