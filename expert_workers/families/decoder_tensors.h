// Groups of tensors that decoders share, with their names and shapes.
#ifndef CONCLAVE_EXPERT_WORKERS_FAMILIES_DECODER_TENSORS_H_
#define CONCLAVE_EXPERT_WORKERS_FAMILIES_DECODER_TENSORS_H_

#include <memory>
#include <span>
#include <string_view>

#include "base/status.h"
#include "expert_workers/families/family.h"
#include "kernels/packed_matrix.h"

namespace conclave::families {

struct DecoderEmbedding {
  kernels::PackedMatrix tokens;
  // GGUF's rope_freqs.weight: what each rotated pair's frequency is divided
  // by (Llama 3's scaling, worked out). nullptr: nothing.
  const float* rope_factors = nullptr;

  void List(TensorList& tensors);
};

struct DecoderHead {
  const float* norm = nullptr;
  kernels::PackedMatrix output;  // 0 rows: the embedding's matrix

  void List(TensorList& tensors);
};

enum class Biases {
  kNone,
  kOptional,  // on all four
  kOnQkv,
};

struct AttentionTensors {
  kernels::PackedMatrix q, k, v, output;
  // nullptr: none
  const float* q_bias = nullptr;
  const float* k_bias = nullptr;
  const float* v_bias = nullptr;
  const float* output_bias = nullptr;

  void List(TensorList& tensors, Biases biases);
};

struct FeedForwardTensors {
  kernels::PackedMatrix gate, up, down;

  void List(TensorList& tensors);
};

// One MoE expert: a SwiGLU of its own.
struct ExpertTensors {
  kernels::PackedMatrix gate, up, down;
};

// What a family's files call an expert's three matrices.
struct ExpertNames {
  std::string_view gate = "gate_proj.weight";
  std::string_view up = "up_proj.weight";
  std::string_view down = "down_proj.weight";
};

void ListExpert(TensorList& tensors, const ExpertNames& names,
                ExpertTensors* expert);

// Where experts come from that are not all in memory.
class ExpertSource {
 public:
  virtual ~ExpertSource() = default;
  // Brings experts of a layer, in this order: the first n, which it returns,
  // may be computed with until the next call. The error is the first one's.
  virtual absl::StatusOr<size_t> Bring(int64_t layer,
                                       std::span<const int64_t> experts) = 0;
  virtual bool Has(int64_t layer, int64_t expert) const = 0;
};

// A layer's experts, one for each of num_experts; they outlive the layer.
struct MoeExperts {
  std::span<const ExpertTensors> tensors;
  int64_t layer = 0;
  ExpertSource* source = nullptr;  // nullptr: they are in memory
};

// A layer's mixture: the gate's matrix, and experts once they are bound.
struct MoeTensors {
  kernels::PackedMatrix gate;  // [num_experts, hidden_size]
  MoeExperts experts;
};

// An expert that every token uses, weighed by a gate of its own.
struct SharedExpertTensors {
  ExpertTensors expert;
  const float* gate = nullptr;  // [hidden_size]; its sigmoid is the weight

  void List(TensorList& tensors);
};

// `facts` completed for a decoder whose layers are `Layer`s.
template <typename Layer>
constexpr Family DecoderFamily(Family facts) {
  facts.list_embedding = [](TensorList& t) { DecoderEmbedding().List(t); };
  facts.list_layer = [](TensorList& t) { Layer().List(t); };
  facts.list_head = [](TensorList& t) { DecoderHead().List(t); };
  facts.new_layer = []() -> std::unique_ptr<DecoderLayer> {
    return std::make_unique<Layer>();
  };
  return facts;
}

// The gate of most mixtures: a linear scorer, softmax over all experts, the k
// best, their scores as they are or made to sum to 1.
kernels::GateConfig SoftmaxTopKGate(const weights::MoeHyperparameters& moe);

// The same for layers that are mixtures, with SoftmaxTopKGate unless `facts`
// has a gate.
template <typename Layer>
constexpr Family MoeFamily(
    Family facts,
    void (*list_expert)(TensorList& tensors, ExpertTensors* expert) =
        [](TensorList& t, ExpertTensors* expert) {
          ListExpert(t, {}, expert);
        }) {
  if (facts.hf_experts.empty()) facts.hf_experts = "mlp.experts.";
  if (facts.gate == nullptr) facts.gate = SoftmaxTopKGate;
  facts.list_expert = list_expert;
  return DecoderFamily<Layer>(facts);
}

}  // namespace conclave::families

#endif  // CONCLAVE_EXPERT_WORKERS_FAMILIES_DECODER_TENSORS_H_
