#include "expert_workers/weights/model_family.h"

#include <cmath>
#include <map>

namespace conclave::weights {
namespace {

constexpr TensorRule kDecoderEmbedding[] = {
    {"token_embd.weight", Side::kVocab, Side::kHidden},
    // Llama 3's frequency factors: one per rotated pair.
    {"rope_freqs.weight", Side::kOne, Side::kRopePairs, true},
};
constexpr TensorRule kDecoderHead[] = {
    {"output_norm.weight", Side::kOne, Side::kHidden},
    // Absent: the head is the embedding.
    {"output.weight", Side::kVocab, Side::kHidden, true},
};
constexpr TensorRule kLlamaLayer[] = {
    {"attn_norm.weight", Side::kOne, Side::kHidden},
    {"attn_q.weight", Side::kQuery, Side::kHidden, false, true},
    {"attn_k.weight", Side::kKeyValue, Side::kHidden, false, true},
    {"attn_v.weight", Side::kKeyValue, Side::kHidden},
    {"attn_output.weight", Side::kHidden, Side::kQuery},
    {"ffn_norm.weight", Side::kOne, Side::kHidden},
    {"ffn_gate.weight", Side::kFfn, Side::kHidden},
    {"ffn_up.weight", Side::kFfn, Side::kHidden},
    {"ffn_down.weight", Side::kHidden, Side::kFfn},
};
constexpr TensorRule kQwen2Layer[] = {
    {"attn_norm.weight", Side::kOne, Side::kHidden},
    {"attn_q.weight", Side::kQuery, Side::kHidden, false, true},
    {"attn_q.bias", Side::kOne, Side::kQuery, false, true},
    {"attn_k.weight", Side::kKeyValue, Side::kHidden, false, true},
    {"attn_k.bias", Side::kOne, Side::kKeyValue, false, true},
    {"attn_v.weight", Side::kKeyValue, Side::kHidden},
    {"attn_v.bias", Side::kOne, Side::kKeyValue},
    {"attn_output.weight", Side::kHidden, Side::kQuery},
    {"ffn_norm.weight", Side::kOne, Side::kHidden},
    {"ffn_gate.weight", Side::kFfn, Side::kHidden},
    {"ffn_up.weight", Side::kFfn, Side::kHidden},
    {"ffn_down.weight", Side::kHidden, Side::kFfn},
};
constexpr TensorRule kBertEmbedding[] = {
    {"token_embd.weight", Side::kVocab, Side::kHidden},
    {"position_embd.weight", Side::kContext, Side::kHidden},
    {"token_types.weight", Side::kTokenTypes, Side::kHidden},
    {"token_embd_norm.weight", Side::kOne, Side::kHidden},
    {"token_embd_norm.bias", Side::kOne, Side::kHidden},
};
constexpr TensorRule kBertLayer[] = {
    {"attn_q.weight", Side::kQuery, Side::kHidden},
    {"attn_q.bias", Side::kOne, Side::kQuery},
    {"attn_k.weight", Side::kKeyValue, Side::kHidden},
    {"attn_k.bias", Side::kOne, Side::kKeyValue},
    {"attn_v.weight", Side::kKeyValue, Side::kHidden},
    {"attn_v.bias", Side::kOne, Side::kKeyValue},
    {"attn_output.weight", Side::kHidden, Side::kQuery},
    {"attn_output.bias", Side::kOne, Side::kHidden},
    {"attn_output_norm.weight", Side::kOne, Side::kHidden},
    {"attn_output_norm.bias", Side::kOne, Side::kHidden},
    {"ffn_up.weight", Side::kFfn, Side::kHidden},
    {"ffn_up.bias", Side::kOne, Side::kFfn},
    {"ffn_down.weight", Side::kHidden, Side::kFfn},
    {"ffn_down.bias", Side::kOne, Side::kHidden},
    {"layer_output_norm.weight", Side::kOne, Side::kHidden},
    {"layer_output_norm.bias", Side::kOne, Side::kHidden},
};

constexpr Family kFamilies[] = {
    {"llama", "LlamaForCausalLM", kDecoderEmbedding, kLlamaLayer, kDecoderHead,
     /*in_gguf=*/true, /*gguf_interleaves_rope=*/true},
    {"qwen2", "Qwen2ForCausalLM", kDecoderEmbedding, kQwen2Layer, kDecoderHead,
     /*in_gguf=*/true, /*gguf_interleaves_rope=*/false},
    {"bert", "BertModel", kBertEmbedding, kBertLayer, {}},
};

constexpr int64_t kMaxTokenTypes = 16;

int64_t Extent(Side side, const ModelHyperparameters& model) {
  switch (side) {
    case Side::kOne:
      return 1;
    case Side::kHidden:
      return model.hidden_size;
    case Side::kQuery:
      return model.num_heads * model.head_dim;
    case Side::kKeyValue:
      return model.num_kv_heads * model.head_dim;
    case Side::kFfn:
      return model.intermediate_size;
    case Side::kVocab:
      return model.vocab_size;
    case Side::kContext:
      return model.max_context;
    case Side::kRopePairs:
      return model.head_dim / 2;
    case Side::kTokenTypes:
      break;
  }
  return -1;
}

bool Fits(Side side, const ModelHyperparameters& model, int64_t extent) {
  if (side == Side::kTokenTypes) {
    return extent >= 1 && extent <= kMaxTokenTypes;
  }
  return extent == Extent(side, model);
}

using TensorMap = std::map<std::string, SourceTensor, std::less<>>;

absl::Status Take(std::span<const TensorRule> rules, std::string_view prefix,
                  const ModelHyperparameters& model, TensorMap* tensors,
                  UnitSource* unit) {
  for (const TensorRule& rule : rules) {
    const std::string name = fmt::format("{}{}", prefix, rule.name);
    const auto it = tensors->find(name);
    if (it == tensors->end()) {
      if (rule.optional) continue;
      return InvalidArgument("tensor {} is missing; the {} family has it",
                             name, model.architecture);
    }
    const SourceTensor& tensor = it->second;
    const bool is_vector = rule.rows == Side::kOne;
    if (tensor.is_vector != is_vector ||
        !Fits(rule.rows, model, tensor.rows) ||
        !Fits(rule.cols, model, tensor.cols)) {
      return InvalidArgument(
          "tensor {} is {} by {}; the model's numbers make it {} by {}", name,
          tensor.rows, tensor.cols, Extent(rule.rows, model),
          Extent(rule.cols, model));
    }
    unit->tensors.push_back(tensor);
    tensors->erase(it);
  }
  return absl::OkStatus();
}

absl::Status CheckRange(std::string_view what, int64_t value, int64_t low,
                        int64_t high) {
  if (value >= low && value <= high) return absl::OkStatus();
  return InvalidArgument("{} is {}; it must be {}..{}", what, value, low,
                         high);
}

absl::Status CheckPositive(std::string_view what, float value) {
  if (std::isfinite(value) && value > 0) return absl::OkStatus();
  return InvalidArgument("{} is {}; it must be a positive number", what,
                         value);
}

}  // namespace

const Family* FindFamily(std::string_view architecture) {
  for (const Family& family : kFamilies) {
    if (family.architecture == architecture) return &family;
  }
  return nullptr;
}

const Family* FindHuggingFaceFamily(std::string_view name) {
  for (const Family& family : kFamilies) {
    if (family.hugging_face == name) return &family;
  }
  return nullptr;
}

std::string GgufArchitectures() {
  std::string list;
  for (const Family& family : kFamilies) {
    if (!family.in_gguf) continue;
    list += fmt::format("{}{}", list.empty() ? "" : ", ", family.architecture);
  }
  return list;
}

std::string HuggingFaceArchitectures() {
  std::string list;
  for (const Family& family : kFamilies) {
    list += fmt::format("{}{}", list.empty() ? "" : ", ", family.hugging_face);
  }
  return list;
}

absl::Status CheckHyperparameters(const ModelHyperparameters& model) {
  RETURN_IF_ERROR(CheckRange("num_layers", model.num_layers, 1, 4096));
  RETURN_IF_ERROR(CheckRange("hidden_size", model.hidden_size, 1, 1 << 20));
  RETURN_IF_ERROR(
      CheckRange("intermediate_size", model.intermediate_size, 1, 1 << 24));
  RETURN_IF_ERROR(CheckRange("num_heads", model.num_heads, 1, 1 << 16));
  RETURN_IF_ERROR(
      CheckRange("num_kv_heads", model.num_kv_heads, 1, model.num_heads));
  RETURN_IF_ERROR(CheckRange("head_dim", model.head_dim, 1, 1 << 16));
  RETURN_IF_ERROR(CheckRange("vocab_size", model.vocab_size, 1, 1 << 24));
  RETURN_IF_ERROR(CheckRange("max_context", model.max_context, 1, 1 << 30));
  RETURN_IF_ERROR(CheckRange("rope_original_context",
                             model.rope_original_context, 0, 1 << 30));
  if (model.num_heads % model.num_kv_heads != 0) {
    return InvalidArgument("{} heads cannot share {} key-value heads evenly",
                           model.num_heads, model.num_kv_heads);
  }
  if (model.head_dim % 2 != 0) {
    return InvalidArgument("head_dim is {}; it must be even", model.head_dim);
  }
  RETURN_IF_ERROR(CheckPositive("norm_eps", model.norm_eps));
  RETURN_IF_ERROR(CheckPositive("rope_theta", model.rope_theta));
  RETURN_IF_ERROR(CheckPositive("rope_factor", model.rope_factor));
  RETURN_IF_ERROR(
      CheckPositive("rope_low_freq_factor", model.rope_low_freq_factor));
  return CheckPositive("rope_high_freq_factor", model.rope_high_freq_factor);
}

absl::StatusOr<std::vector<UnitSource>> SortIntoUnits(
    const Family& family, const ModelHyperparameters& model,
    std::vector<SourceTensor> tensors) {
  TensorMap by_name;
  for (SourceTensor& tensor : tensors) {
    std::string name = tensor.name;
    const auto [it, fresh] = by_name.emplace(name, std::move(tensor));
    if (!fresh) return InvalidArgument("tensor {} appears twice", it->first);
  }
  std::vector<UnitSource> units;
  units.push_back({"embedding", {}});
  RETURN_IF_ERROR(
      Take(family.embedding, "", model, &by_name, &units.back()));
  for (int64_t layer = 0; layer < model.num_layers; ++layer) {
    units.push_back({fmt::format("layer.{}", layer), {}});
    RETURN_IF_ERROR(Take(family.layer, fmt::format("blk.{}.", layer), model,
                         &by_name, &units.back()));
  }
  if (!family.head.empty()) {
    units.push_back({"head", {}});
    RETURN_IF_ERROR(Take(family.head, "", model, &by_name, &units.back()));
  }
  if (!by_name.empty()) {
    return Unimplemented(
        "tensor {} is not one that the {} family has ({} such tensors)",
        by_name.begin()->first, family.architecture, by_name.size());
  }
  return units;
}

}  // namespace conclave::weights
