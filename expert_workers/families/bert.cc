// BERT as a sentence encoder: post-norm, learned positions, exact GELU.
#include "expert_workers/families/bert_tensors.h"

namespace conclave::families {
namespace {

using enum Side;

constexpr HuggingFaceName kNames[] = {{"BertModel"}};

// Sentence encoders average the last layer; the pooler is not used.
constexpr std::string_view kUnused[] = {
    "embeddings.position_ids", "pooler.dense.weight", "pooler.dense.bias"};

}  // namespace

void BertEmbedding::List(TensorList& t) {
  t.Add({"token_embd.weight", "embeddings.word_embeddings.weight", kVocab,
         kHidden},
        &tokens);
  t.Add({"position_embd.weight", "embeddings.position_embeddings.weight",
         kContext, kHidden},
        &positions);
  t.Add({"token_types.weight", "embeddings.token_type_embeddings.weight",
         kTokenTypes, kHidden},
        &types);
  t.Add(
      {"token_embd_norm.weight", "embeddings.LayerNorm.weight", kOne, kHidden},
      &norm.weight);
  t.Add({"token_embd_norm.bias", "embeddings.LayerNorm.bias", kOne, kHidden},
        &norm.bias);
}

void BertLayer::List(TensorList& t) {
  t.Add({"attn_q.weight", "attention.self.query.weight", kQuery, kHidden},
        &q.weight);
  t.Add({"attn_q.bias", "attention.self.query.bias", kOne, kQuery}, &q.bias);
  t.Add({"attn_k.weight", "attention.self.key.weight", kKeyValue, kHidden},
        &k.weight);
  t.Add({"attn_k.bias", "attention.self.key.bias", kOne, kKeyValue}, &k.bias);
  t.Add({"attn_v.weight", "attention.self.value.weight", kKeyValue, kHidden},
        &v.weight);
  t.Add({"attn_v.bias", "attention.self.value.bias", kOne, kKeyValue}, &v.bias);
  t.Add(
      {"attn_output.weight", "attention.output.dense.weight", kHidden, kQuery},
      &output.weight);
  t.Add({"attn_output.bias", "attention.output.dense.bias", kOne, kHidden},
        &output.bias);
  t.Add({"attn_output_norm.weight", "attention.output.LayerNorm.weight", kOne,
         kHidden},
        &attention_norm.weight);
  t.Add({"attn_output_norm.bias", "attention.output.LayerNorm.bias", kOne,
         kHidden},
        &attention_norm.bias);
  t.Add({"ffn_up.weight", "intermediate.dense.weight", kFfn, kHidden},
        &up.weight);
  t.Add({"ffn_up.bias", "intermediate.dense.bias", kOne, kFfn}, &up.bias);
  t.Add({"ffn_down.weight", "output.dense.weight", kHidden, kFfn},
        &down.weight);
  t.Add({"ffn_down.bias", "output.dense.bias", kOne, kHidden}, &down.bias);
  t.Add({"layer_output_norm.weight", "output.LayerNorm.weight", kOne, kHidden},
        &output_norm.weight);
  t.Add({"layer_output_norm.bias", "output.LayerNorm.bias", kOne, kHidden},
        &output_norm.bias);
}

extern const Family kBert;
const Family kBert = {
    .architecture = "bert",
    .hugging_face = kNames,
    .hf_layers = "encoder.layer.",
    .hf_prefix = "bert.",
    .hf_unused = kUnused,
    .in_gguf = false,
    .activation = "gelu",
    .tied_embeddings = true,
    .list_embedding = [](TensorList& t) { BertEmbedding().List(t); },
    .list_layer = [](TensorList& t) { BertLayer().List(t); },
};

}  // namespace conclave::families
