// What a model is, apart from its weights: architecture, hyperparameters,
// tokenizer, chat template. Importers write it, the engine reads it, the
// manifest stores it. Plain values.
#ifndef CONCLAVE_EXPERT_WORKERS_WEIGHTS_MODEL_SPEC_H_
#define CONCLAVE_EXPERT_WORKERS_WEIGHTS_MODEL_SPEC_H_

#include <cstdint>
#include <string>
#include <vector>

namespace conclave::weights {

// What a model's mixture-of-experts layers are; num_experts 0: it has none.
struct MoeHyperparameters {
  int64_t num_experts = 0;
  int64_t experts_per_token = 0;
  int64_t intermediate_size = 0;         // of one expert
  int64_t shared_intermediate_size = 0;  // of the shared expert; 0: none
  // Whether the weights of the experts chosen are made to sum to 1.
  bool renormalize = false;

  bool operator==(const MoeHyperparameters&) const = default;
};

// Numbers of one transformer. Field names are the field's own; counts are
// elements.
struct ModelHyperparameters {
  std::string architecture;  // "llama", "gemma3": one of families/
  int64_t num_layers = 0;
  int64_t hidden_size = 0;
  int64_t intermediate_size = 0;
  int64_t num_heads = 0;
  int64_t num_kv_heads = 0;
  int64_t head_dim = 0;
  int64_t vocab_size = 0;
  int64_t max_context = 0;  // tokens
  float norm_eps = 1e-5f;
  float rope_theta = 10000.0f;
  // RoPE scaling: "" (none), "linear", "llama3", "yarn".
  std::string rope_scaling;
  float rope_factor = 1.0f;
  float rope_low_freq_factor = 1.0f;
  float rope_high_freq_factor = 4.0f;
  int64_t rope_original_context = 0;
  float rope_beta_fast = 32.0f;  // YaRN's
  float rope_beta_slow = 1.0f;
  // What YaRN multiplies sine and cosine by; 0: 0.1 ln(rope_factor) + 1.
  float rope_magnitude = 0.0f;
  // Layers with a window turn by this base, unscaled; 0: as the others do.
  float rope_local_theta = 0.0f;
  // One a layer: the tokens that it looks back over, itself included; 0: all.
  // Empty: no layer has a window.
  std::vector<int64_t> layer_windows;
  float attention_scale = 0.0f;  // of q k; 0: 1 / sqrt(head_dim)
  bool tied_embeddings = false;
  MoeHyperparameters moe;
};

enum class TokenizerKind : uint8_t {
  kByteLevelBpe = 0,
  kWordPiece = 1,
  kSentencePiece = 2,
};

enum class TokenType : uint8_t {
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,
  kUserDefined = 4,
  kUnused = 5,
  kByte = 6,
};

struct TokenizerSpec {
  TokenizerKind kind = TokenizerKind::kByteLevelBpe;
  // How text is split before BPE: "smollm", "qwen2", "llama-bpe", "gpt2".
  std::string pre;
  // Token id -> its text. Byte-level BPE keeps GPT-2's printable-byte mapping,
  // WordPiece its "##" prefixes, SentencePiece its U+2581 for spaces.
  std::vector<std::string> tokens;
  std::vector<TokenType> types;     // as long as tokens
  std::vector<float> scores;        // SentencePiece only, else empty
  std::vector<std::string> merges;  // "left right", best first; BPE only
  int32_t bos_id = -1;              // -1: the model has none
  int32_t eos_id = -1;
  int32_t unk_id = -1;
  int32_t pad_id = -1;
  int32_t cls_id = -1;
  int32_t sep_id = -1;
  // Further ids that end a turn (<|im_end|>, <|eot_id|>).
  std::vector<int32_t> end_of_turn_ids;
  bool add_bos = false;
  bool lowercase = false;  // WordPiece: uncased models
  // SentencePiece: a space goes before every text; runs of spaces are one.
  bool add_space_prefix = false;
  bool remove_extra_spaces = false;
};

struct ModelSpec {
  ModelHyperparameters hyperparameters;
  TokenizerSpec tokenizer;
  std::string chat_template;  // Jinja source; may be empty
};

}  // namespace conclave::weights

#endif  // CONCLAVE_EXPERT_WORKERS_WEIGHTS_MODEL_SPEC_H_
