// Template source to tokens, with Jinja's white-space control (trim_blocks
// and lstrip_blocks on, as transformers sets them).
#ifndef CONCLAVE_EXPERT_WORKERS_TEMPLATE_LEXER_H_
#define CONCLAVE_EXPERT_WORKERS_TEMPLATE_LEXER_H_

#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace conclave::engine {

enum class TokenKind : uint8_t {
  kData,  // text between tags, trimmed
  kVariableBegin,
  kVariableEnd,
  kBlockBegin,
  kBlockEnd,
  kName,
  kString,  // unescaped
  kInteger,
  kFloat,
  kOperator,
  kEnd,
};

struct Token {
  TokenKind kind;
  std::string text;
  int line;
};

//   INVALID_ARGUMENT  "line 3: ..."
absl::StatusOr<std::vector<Token>> Lex(std::string_view source);

}  // namespace conclave::engine

#endif  // CONCLAVE_EXPERT_WORKERS_TEMPLATE_LEXER_H_
