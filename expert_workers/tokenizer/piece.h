// A stretch of prompt text with the word of who wrote it. A chat template
// renders to pieces; the tokenizer turns control strings into control tokens
// only where the text is trusted.
#ifndef CONCLAVE_EXPERT_WORKERS_TOKENIZER_PIECE_H_
#define CONCLAVE_EXPERT_WORKERS_TOKENIZER_PIECE_H_

#include <string>

namespace conclave::engine {

struct Piece {
  std::string text;      // UTF-8; invalid bytes are kept
  bool trusted = false;  // true: the model's own template wrote it

  bool operator==(const Piece&) const = default;
};

}  // namespace conclave::engine

#endif  // CONCLAVE_EXPERT_WORKERS_TOKENIZER_PIECE_H_
