// Qwen2 and Qwen2.5: pre-norm (RMS), grouped-query attention whose q, k and v
// have biases, rotated positions, SwiGLU.
#include <fmt/core.h>

#include <memory>
#include <string>
#include <vector>

#include "expert_workers/engine/families/decoder.h"
#include "expert_workers/engine/families/families.h"

namespace conclave::engine {
namespace {

class Qwen2 final : public Decoder {
 public:
  Qwen2(const weights::ModelHyperparameters& model, const kernels::Ops& ops)
      : Decoder(model, ops) {}

 private:
  struct Layer {
    const float* attention_norm = nullptr;
    QkvWeights qkv;
    kernels::PackedMatrix attention_output;
    const float* ffn_norm = nullptr;
    kernels::PackedMatrix gate, up, down;
  };

  void LoadLayer(Tensors& t, int64_t index) override {
    const std::string p = fmt::format("blk.{}.", index);
    const int64_t d = model_.hidden_size;
    const int64_t f = model_.intermediate_size;
    const int64_t q = model_.num_heads * model_.head_dim;
    const int64_t kv = model_.num_kv_heads * model_.head_dim;
    Layer layer;
    layer.attention_norm = t.Vector(p + "attn_norm.weight", d);
    layer.qkv.q = t.Matrix(p + "attn_q.weight", q, d);
    layer.qkv.k = t.Matrix(p + "attn_k.weight", kv, d);
    layer.qkv.v = t.Matrix(p + "attn_v.weight", kv, d);
    layer.qkv.q_bias = t.Vector(p + "attn_q.bias", q);
    layer.qkv.k_bias = t.Vector(p + "attn_k.bias", kv);
    layer.qkv.v_bias = t.Vector(p + "attn_v.bias", kv);
    layer.attention_output = t.Matrix(p + "attn_output.weight", d, q);
    layer.ffn_norm = t.Vector(p + "ffn_norm.weight", d);
    layer.gate = t.Matrix(p + "ffn_gate.weight", f, d);
    layer.up = t.Matrix(p + "ffn_up.weight", f, d);
    layer.down = t.Matrix(p + "ffn_down.weight", d, f);
    layers_.push_back(layer);
  }

  void RunLayer(const KvCache& cache, int64_t index) override {
    const Layer& layer = layers_[static_cast<size_t>(index)];
    blocks_.Norm(layer.attention_norm);
    blocks_.ProjectQkv(layer.qkv);
    blocks_.RotateAndStore(cache, index, rope_);
    blocks_.Attend(cache, index);
    blocks_.AddProjectedAttention(layer.attention_output);

    blocks_.Norm(layer.ffn_norm);
    blocks_.SwiGlu(layer.gate, layer.up);
    blocks_.AddProjectedActivation(layer.down);
  }

  std::vector<Layer> layers_;
};

}  // namespace

std::unique_ptr<Decoder> MakeQwen2(const weights::ModelHyperparameters& model,
                                   const kernels::Ops& ops) {
  return std::make_unique<Qwen2>(model, ops);
}

}  // namespace conclave::engine
