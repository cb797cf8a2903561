#include "expert_workers/weights/tokenizer_facts.h"

#include <algorithm>
#include <array>
#include <utility>

namespace conclave::weights {
namespace {

constexpr std::string_view kSplitRules = "smollm, qwen2, llama-bpe, gpt2";

// Other names under which GGUF files carry the same four rules.
constexpr std::pair<std::string_view, std::string_view> kGgufNames[] = {
    {"smollm", "smollm"},
    {"qwen2", "qwen2"},
    {"deepseek-r1-qwen", "qwen2"},
    {"llama-bpe", "llama-bpe"},
    {"llama3", "llama-bpe"},
    {"llama-v3", "llama-bpe"},
    {"gpt2", "gpt2"},
    {"gpt-2", "gpt2"},
};

constexpr std::pair<std::string_view, std::string_view> kRegexes[] = {
    {R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
     "qwen2"},
    {R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
     "llama-bpe"},
    {R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)",
     "gpt2"},
};

constexpr std::string_view kEndOfTurn[] = {
    "<|im_end|>",    "<|eot_id|>",         "<|eom_id|>",
    "<|end|>",       "<|endoftext|>",      "<|end_of_text|>",
    "<end_of_turn>", "<end_of_utterance>", "</s>"};

absl::Status CheckId(std::string_view what, int32_t id, size_t num_tokens) {
  if (id >= -1 && id < static_cast<int64_t>(num_tokens)) {
    return absl::OkStatus();
  }
  return InvalidArgument("{} is {}, but the vocabulary has {} tokens", what, id,
                         num_tokens);
}

}  // namespace

absl::StatusOr<std::string> SplitRuleOfGguf(std::string_view pre) {
  for (const auto& [name, rule] : kGgufNames) {
    if (name == pre) return std::string(rule);
  }
  return Unimplemented("tokenizer.ggml.pre is \"{}\"; supported are {}", pre,
                       kSplitRules);
}

absl::StatusOr<std::string> SplitRuleOfRegex(std::string_view pattern) {
  for (const auto& [regex, rule] : kRegexes) {
    if (regex == pattern) return std::string(rule);
  }
  return Unimplemented(
      "tokenizer.json splits text by \"{}\"; supported are the rules {}",
      pattern.substr(0, 200), kSplitRules);
}

void AddEndOfTurnIds(TokenizerSpec* tokenizer) {
  std::vector<int32_t>& ids = tokenizer->end_of_turn_ids;
  for (size_t id = 0; id < tokenizer->tokens.size(); ++id) {
    const TokenType type = tokenizer->types[id];
    if (type != TokenType::kControl && type != TokenType::kUserDefined) {
      continue;
    }
    if (std::ranges::find(kEndOfTurn, tokenizer->tokens[id]) !=
        std::end(kEndOfTurn)) {
      ids.push_back(static_cast<int32_t>(id));
    }
  }
  std::erase(ids, tokenizer->eos_id);
  std::erase(ids, -1);
  std::ranges::sort(ids);
  const auto repeated = std::ranges::unique(ids);
  ids.erase(repeated.begin(), repeated.end());
}

int32_t FindToken(const TokenizerSpec& tokenizer, std::string_view text) {
  const auto it = std::ranges::find(tokenizer.tokens, text);
  if (it == tokenizer.tokens.end()) return -1;
  return static_cast<int32_t>(it - tokenizer.tokens.begin());
}

void PadVocabulary(int64_t vocab_size, TokenizerSpec* tokenizer) {
  for (auto id = static_cast<int64_t>(tokenizer->tokens.size());
       id < vocab_size; ++id) {
    tokenizer->tokens.push_back(fmt::format("[PAD{}]", id));
    tokenizer->types.push_back(TokenType::kUnused);
    if (tokenizer->kind == TokenizerKind::kSentencePiece) {
      tokenizer->scores.push_back(-1e9f);  // after everything else
    }
  }
}

absl::Status CheckTokenizer(const TokenizerSpec& tokenizer) {
  const size_t size = tokenizer.tokens.size();
  if (size == 0) return InvalidArgument("the tokenizer has no tokens");
  if (tokenizer.types.size() != size) {
    return InvalidArgument("{} tokens, but {} token types", size,
                           tokenizer.types.size());
  }
  const bool scored = tokenizer.kind == TokenizerKind::kSentencePiece;
  if (tokenizer.scores.size() != (scored ? size : 0)) {
    return InvalidArgument("{} tokens, but {} scores", size,
                           tokenizer.scores.size());
  }
  if (scored && tokenizer.unk_id < 0) {
    return InvalidArgument("the vocabulary has no unknown token");
  }
  for (const std::string& merge : tokenizer.merges) {
    const size_t space = merge.find(' ');
    if (space == 0 || space == std::string::npos || space + 1 == merge.size() ||
        merge.find(' ', space + 1) != std::string::npos) {
      return InvalidArgument("merge \"{}\" is not two parts and a space",
                             merge.substr(0, 100));
    }
  }
  RETURN_IF_ERROR(CheckId("the BOS id", tokenizer.bos_id, size));
  RETURN_IF_ERROR(CheckId("the EOS id", tokenizer.eos_id, size));
  RETURN_IF_ERROR(CheckId("the unknown-token id", tokenizer.unk_id, size));
  RETURN_IF_ERROR(CheckId("the padding id", tokenizer.pad_id, size));
  RETURN_IF_ERROR(CheckId("the CLS id", tokenizer.cls_id, size));
  RETURN_IF_ERROR(CheckId("the SEP id", tokenizer.sep_id, size));
  for (const int32_t id : tokenizer.end_of_turn_ids) {
    RETURN_IF_ERROR(CheckId("an end-of-turn id", id, size));
  }
  return absl::OkStatus();
}

}  // namespace conclave::weights
