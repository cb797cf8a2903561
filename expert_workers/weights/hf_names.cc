#include "expert_workers/weights/hf_names.h"

#include <algorithm>
#include <span>
#include <utility>

namespace conclave::weights {
namespace {

using NamePair = std::pair<std::string_view, std::string_view>;

constexpr NamePair kDecoderModel[] = {
    {"model.embed_tokens.weight", "token_embd.weight"},
    {"model.norm.weight", "output_norm.weight"},
    {"lm_head.weight", "output.weight"},
};
// After "model.layers.N." and "blk.N.", without ".weight" and ".bias".
constexpr NamePair kDecoderLayer[] = {
    {"input_layernorm", "attn_norm"},
    {"self_attn.q_proj", "attn_q"},
    {"self_attn.k_proj", "attn_k"},
    {"self_attn.v_proj", "attn_v"},
    {"self_attn.o_proj", "attn_output"},
    {"post_attention_layernorm", "ffn_norm"},
    {"mlp.gate_proj", "ffn_gate"},
    {"mlp.up_proj", "ffn_up"},
    {"mlp.down_proj", "ffn_down"},
};
constexpr NamePair kBertModel[] = {
    {"embeddings.word_embeddings.weight", "token_embd.weight"},
    {"embeddings.position_embeddings.weight", "position_embd.weight"},
    {"embeddings.token_type_embeddings.weight", "token_types.weight"},
    {"embeddings.LayerNorm.weight", "token_embd_norm.weight"},
    {"embeddings.LayerNorm.bias", "token_embd_norm.bias"},
    // Sentence encoders average the last layer; the pooler is not used.
    {"embeddings.position_ids", ""},
    {"pooler.dense.weight", ""},
    {"pooler.dense.bias", ""},
};
constexpr NamePair kBertLayer[] = {
    {"attention.self.query", "attn_q"},
    {"attention.self.key", "attn_k"},
    {"attention.self.value", "attn_v"},
    {"attention.output.dense", "attn_output"},
    {"attention.output.LayerNorm", "attn_output_norm"},
    {"intermediate.dense", "ffn_up"},
    {"output.dense", "ffn_down"},
    {"output.LayerNorm", "layer_output_norm"},
};

bool IsDigits(std::string_view text) {
  return !text.empty() && text.size() <= 4 &&
         std::ranges::all_of(text, [](char c) { return c >= '0' && c <= '9'; });
}

std::optional<std::string> TranslateLayer(std::string_view rest,
                                          std::span<const NamePair> names) {
  const size_t dot = rest.find('.');
  if (dot == std::string_view::npos || !IsDigits(rest.substr(0, dot))) {
    return std::nullopt;
  }
  const std::string_view layer = rest.substr(0, dot);
  rest.remove_prefix(dot + 1);
  // A buffer that old checkpoints carry.
  if (rest == "self_attn.rotary_emb.inv_freq") return "";
  const size_t last = rest.rfind('.');
  if (last == std::string_view::npos) return std::nullopt;
  const std::string_view kind = rest.substr(last);
  if (kind != ".weight" && kind != ".bias") return std::nullopt;
  for (const auto& [from, to] : names) {
    if (rest.substr(0, last) == from) {
      return fmt::format("blk.{}.{}{}", layer, to, kind);
    }
  }
  return std::nullopt;
}

}  // namespace

std::optional<std::string> TranslateHfName(const Family& family,
                                           std::string_view name) {
  const bool bert = family.architecture == "bert";
  if (bert && name.starts_with("bert.")) name.remove_prefix(5);
  const std::span<const NamePair> model =
      bert ? std::span<const NamePair>(kBertModel) : kDecoderModel;
  for (const auto& [from, to] : model) {
    if (name == from) return std::string(to);
  }
  const std::string_view layers = bert ? "encoder.layer." : "model.layers.";
  if (!name.starts_with(layers)) return std::nullopt;
  return TranslateLayer(
      name.substr(layers.size()),
      bert ? std::span<const NamePair>(kBertLayer) : kDecoderLayer);
}

}  // namespace conclave::weights
