// BERT as a sentence encoder: token ids in, one vector of hidden states summed
// over the tokens out.
//
// Encoders come in floating point, and their rate is bound by arithmetic: a
// text is many tokens at once. So the fast path keeps a copy of the layers'
// matrices in Q8_0 and multiplies integers (MiniLM: 11 MB beside 43). What is
// stored stays exact, and the reference path reads that.
#ifndef CONCLAVE_EXPERT_WORKERS_ENGINE_FORWARD_BERT_H_
#define CONCLAVE_EXPERT_WORKERS_ENGINE_FORWARD_BERT_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "base/status.h"
#include "expert_workers/engine/compute.h"
#include "expert_workers/families/bert_tensors.h"
#include "expert_workers/weights/ram_tier.h"
#include "kernels/ops.h"
#include "kernels/quantize_weights.h"

namespace conclave::engine {

// Threads: none; its scratch serves one text at a time.
class Bert {
 public:
  // `lease` outlives it.
  //   UNIMPLEMENTED     another architecture
  //   INVALID_ARGUMENT  a tensor is missing or has another shape
  static absl::StatusOr<std::unique_ptr<Bert>> Create(
      const weights::ModelLease& lease, const kernels::Ops& ops);

  // Memory of the fast path's copies.
  static int64_t CopyBytes(const weights::ModelManifest& manifest);

  int64_t hidden_size() const { return d_; }
  // Tokens one window may have.
  int64_t max_tokens() const { return max_tokens_; }

  // sum[hidden_size] += the last layer's states of `ids` (one window, frame
  // included), tokens in ascending order. Call while holding the turn; yields
  // it between layers.
  void AddStates(std::span<const int32_t> ids, Compute* compute,
                 Compute::Turn& turn, std::span<double> sum);

 private:
  Bert(const weights::ModelHyperparameters& model, const kernels::Ops& ops);

  absl::Status Load(const weights::ModelLease& lease);
  void CopyIn8Bits(families::BertLayer& layer);

  void Embed(std::span<const int32_t> ids);
  void RunLayer(const families::BertLayer& layer);
  // out[i, :] = weight in[i] + bias for each of `linears`; `then(row values,
  // count)` runs on each piece of a row.
  struct Target {
    const families::BertLinear* linear;
    float* out;
    int64_t stride;
    std::function<void(float* values, int64_t count)> then;
  };
  void Project(kernels::Activations& in, std::span<const Target> targets);
  // x = norm(x + y), into the activations that the next projection reads too.
  void AddAndNorm(const families::BertNorm& norm);
  void ForRows(const std::function<void(int64_t, int64_t)>& body);

  const kernels::Ops& ops_;
  const int64_t num_layers_, d_, f_, num_heads_, head_dim_;
  const int64_t max_tokens_;
  const float eps_;
  const bool in_8_bits_;
  std::vector<std::unique_ptr<const kernels::OwnedMatrix>> copies_;
  families::BertEmbedding embedding_;
  std::vector<families::BertLayer> layers_;

  Compute* compute_ = nullptr;
  int64_t m_ = 0;
  kernels::Activations x_;          // [m, d]
  std::vector<float> qkv_;          // [m, 3 d]
  kernels::Activations attended_;   // [m, d]
  kernels::Activations activated_;  // [m, f]
  std::vector<float> y_;            // [m, d]
};

}  // namespace conclave::engine

#endif  // CONCLAVE_EXPERT_WORKERS_ENGINE_FORWARD_BERT_H_
