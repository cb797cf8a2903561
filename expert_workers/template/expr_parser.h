// The expression half of the parser: precedence climbs from `parts of a
// tuple` down to literals, one function a level.
#ifndef CONCLAVE_EXPERT_WORKERS_TEMPLATE_EXPR_PARSER_H_
#define CONCLAVE_EXPERT_WORKERS_TEMPLATE_EXPR_PARSER_H_

#include <string_view>
#include <vector>

#include "expert_workers/template/ast.h"
#include "expert_workers/template/lexer.h"

namespace conclave::engine {

class ExprParser {
 public:
  // `tokens` ends with kEnd.
  explicit ExprParser(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

  // "a, b" makes a tuple; `end_word` ends it ("in"). Without conditionals a
  // following `if` belongs to someone else.
  absl::StatusOr<ExprPtr> ParseTuple(bool conditionals,
                                     std::string_view end_word = "",
                                     bool in_parentheses = false);
  absl::StatusOr<ExprPtr> ParseExpression(bool conditionals = true);
  // "| upper | trim", applied to nothing yet: `first` may be null.
  absl::StatusOr<ExprPtr> ParseFilters(ExprPtr first, bool starts_inline);

  const Token& Current() const { return tokens_[pos_]; }
  const Token& Look() const {
    return tokens_[pos_ + 1 < tokens_.size() ? pos_ + 1 : pos_];
  }
  void Skip() {
    if (pos_ + 1 < tokens_.size()) ++pos_;
  }
  bool AtName(std::string_view name) const {
    return Current().kind == TokenKind::kName && Current().text == name;
  }
  bool AtOperator(std::string_view op) const {
    return Current().kind == TokenKind::kOperator && Current().text == op;
  }
  bool SkipName(std::string_view name);
  bool SkipOperator(std::string_view op);
  absl::Status ExpectOperator(std::string_view op);
  absl::StatusOr<std::string> ExpectName();
  absl::Status Error(std::string_view what) const;

  // Nesting of blocks, brackets and prefixes. 64 holds every known template
  // several times over, and bounds the parser's own recursion.
  static constexpr int kMaxNesting = 64;
  // Depth of the tree: long sums lean to the left.
  static constexpr int kMaxTreeDepth = 256;
  absl::Status Enter();
  void Leave() { --nesting_; }

 private:
  absl::StatusOr<ExprPtr> ParseConditional();
  absl::StatusOr<ExprPtr> ParseOr();
  absl::StatusOr<ExprPtr> ParseAnd();
  absl::StatusOr<ExprPtr> ParseNot();
  absl::StatusOr<ExprPtr> ParseCompare();
  absl::StatusOr<ExprPtr> ParseSum();
  absl::StatusOr<ExprPtr> ParseConcat();
  absl::StatusOr<ExprPtr> ParseProduct();
  absl::StatusOr<ExprPtr> ParsePower();
  absl::StatusOr<ExprPtr> ParseUnary(bool with_filters);
  absl::StatusOr<ExprPtr> ParsePrimary();
  absl::StatusOr<ExprPtr> ParseNumber();
  absl::StatusOr<ExprPtr> ParseList();
  absl::StatusOr<ExprPtr> ParseDict();
  absl::StatusOr<ExprPtr> ParsePostfix(ExprPtr node);
  absl::StatusOr<ExprPtr> ParsePostfixFilters(ExprPtr node);
  absl::StatusOr<ExprPtr> ParseSubscript(ExprPtr node);
  absl::StatusOr<ExprPtr> ParseCall(ExprPtr node);
  absl::StatusOr<ExprPtr> ParseTest(ExprPtr node);
  absl::Status ParseArguments(Expr* call);

  bool AtTupleEnd(std::string_view end_word) const;
  ExprPtr New(ExprKind kind, std::string text = {}) const;
  // Takes children over, or refuses a tree that grows too deep.
  absl::Status Adopt(Expr* parent, ExprPtr child) const;
  absl::Status Deepen(Expr* parent, const Expr* child) const;
  absl::StatusOr<ExprPtr> Binary(ExprKind kind, std::string op, ExprPtr left,
                                 ExprPtr right) const;

  std::vector<Token> tokens_;
  size_t pos_ = 0;
  int nesting_ = 0;
};

}  // namespace conclave::engine

#endif  // CONCLAVE_EXPERT_WORKERS_TEMPLATE_EXPR_PARSER_H_
