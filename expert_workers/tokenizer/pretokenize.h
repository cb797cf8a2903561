// How text is cut into words before BPE merges inside each of them. The rules
// are the models' reference regular expressions, written out by hand: a
// backtracking engine is slow and can be made to run away, these are linear.
//
//   gpt2       's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+|
//              ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
//   smollm     every \p{N} alone, then gpt2 on each stretch between them
//   qwen2      (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|
//              ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
//   llama-bpe  as qwen2, with \p{N}{1,3}
#ifndef CONCLAVE_EXPERT_WORKERS_TOKENIZER_PRETOKENIZE_H_
#define CONCLAVE_EXPERT_WORKERS_TOKENIZER_PRETOKENIZE_H_

#include <optional>
#include <string_view>
#include <vector>

namespace conclave::engine {

enum class SplitRule { kGpt2, kSmolLm, kQwen2, kLlamaBpe };

// The rule of a GGUF `tokenizer.ggml.pre` name; none for an unknown name.
std::optional<SplitRule> SplitRuleFromName(std::string_view name);

// Appends the words of `text` in order; together they are `text`. The views
// point into `text`.
void SplitWords(SplitRule rule, std::string_view text,
                std::vector<std::string_view>* words);

}  // namespace conclave::engine

#endif  // CONCLAVE_EXPERT_WORKERS_TOKENIZER_PRETOKENIZE_H_
