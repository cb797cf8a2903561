#include "expert_workers/template/expr_parser.h"

#include <algorithm>
#include <charconv>

namespace conclave::engine {
namespace {

// Counts one level of nesting for as long as it lives.
class NestingGuard {
 public:
  explicit NestingGuard(ExprParser* parser) : parser_(parser) {}
  ~NestingGuard() { parser_->Leave(); }
  NestingGuard(const NestingGuard&) = delete;
  NestingGuard& operator=(const NestingGuard&) = delete;

 private:
  ExprParser* parser_;
};

}  // namespace

absl::Status ExprParser::Enter() {
  ++nesting_;
  if (nesting_ <= kMaxNesting) return absl::OkStatus();
  return Error(fmt::format("nested deeper than {}", kMaxNesting));
}

bool ExprParser::SkipName(std::string_view name) {
  if (!AtName(name)) return false;
  Skip();
  return true;
}

bool ExprParser::SkipOperator(std::string_view op) {
  if (!AtOperator(op)) return false;
  Skip();
  return true;
}

absl::Status ExprParser::ExpectOperator(std::string_view op) {
  if (SkipOperator(op)) return absl::OkStatus();
  return Error(fmt::format("expected '{}', found '{}'", op, Current().text));
}

absl::StatusOr<std::string> ExprParser::ExpectName() {
  if (Current().kind != TokenKind::kName) {
    return Error(fmt::format("expected a name, found '{}'", Current().text));
  }
  std::string name = Current().text;
  Skip();
  return name;
}

absl::Status ExprParser::Error(std::string_view what) const {
  return InvalidArgument("line {}: {}", Current().line, what);
}

ExprPtr ExprParser::New(ExprKind kind, std::string text) const {
  auto node = std::make_unique<Expr>();
  node->kind = kind;
  node->line = Current().line;
  node->text = std::move(text);
  return node;
}

absl::Status ExprParser::Deepen(Expr* parent, const Expr* child) const {
  if (child == nullptr) return absl::OkStatus();
  parent->depth = std::max(parent->depth, child->depth + 1);
  if (parent->depth <= kMaxTreeDepth) return absl::OkStatus();
  return Error("expression is too long");
}

absl::Status ExprParser::Adopt(Expr* parent, ExprPtr child) const {
  const absl::Status status = Deepen(parent, child.get());
  parent->children.push_back(std::move(child));
  return status;
}

absl::StatusOr<ExprPtr> ExprParser::Binary(ExprKind kind, std::string op,
                                           ExprPtr left, ExprPtr right) const {
  ExprPtr node = New(kind, std::move(op));
  RETURN_IF_ERROR(Adopt(node.get(), std::move(left)));
  RETURN_IF_ERROR(Adopt(node.get(), std::move(right)));
  return node;
}

bool ExprParser::AtTupleEnd(std::string_view end_word) const {
  return Current().kind == TokenKind::kVariableEnd ||
         Current().kind == TokenKind::kBlockEnd || AtOperator(")") ||
         (!end_word.empty() && AtName(end_word));
}

absl::StatusOr<ExprPtr> ExprParser::ParseTuple(bool conditionals,
                                               std::string_view end_word,
                                               bool in_parentheses) {
  ExprPtr tuple = New(ExprKind::kTuple);
  bool is_tuple = false;
  while (!AtTupleEnd(end_word)) {
    ASSIGN_OR_RETURN(ExprPtr item, ParseExpression(conditionals));
    RETURN_IF_ERROR(Adopt(tuple.get(), std::move(item)));
    if (!SkipOperator(",")) break;
    is_tuple = true;
  }
  if (is_tuple) return tuple;
  if (!tuple->children.empty()) return std::move(tuple->children[0]);
  if (in_parentheses) return tuple;
  return Error("expected an expression");
}

absl::StatusOr<ExprPtr> ExprParser::ParseExpression(bool conditionals) {
  const absl::Status entered = Enter();
  const NestingGuard guard(this);
  RETURN_IF_ERROR(entered);
  return conditionals ? ParseConditional() : ParseOr();
}

absl::StatusOr<ExprPtr> ExprParser::ParseConditional() {
  ASSIGN_OR_RETURN(ExprPtr value, ParseOr());
  while (SkipName("if")) {
    ExprPtr node = New(ExprKind::kConditional);
    ASSIGN_OR_RETURN(ExprPtr condition, ParseOr());
    RETURN_IF_ERROR(Adopt(node.get(), std::move(condition)));
    RETURN_IF_ERROR(Adopt(node.get(), std::move(value)));
    ExprPtr otherwise;
    if (SkipName("else")) {
      ASSIGN_OR_RETURN(otherwise, ParseExpression());
    }
    RETURN_IF_ERROR(Adopt(node.get(), std::move(otherwise)));
    value = std::move(node);
  }
  return value;
}

absl::StatusOr<ExprPtr> ExprParser::ParseOr() {
  ASSIGN_OR_RETURN(ExprPtr left, ParseAnd());
  while (SkipName("or")) {
    ASSIGN_OR_RETURN(ExprPtr right, ParseAnd());
    ASSIGN_OR_RETURN(
        left, Binary(ExprKind::kOr, "or", std::move(left), std::move(right)));
  }
  return left;
}

absl::StatusOr<ExprPtr> ExprParser::ParseAnd() {
  ASSIGN_OR_RETURN(ExprPtr left, ParseNot());
  while (SkipName("and")) {
    ASSIGN_OR_RETURN(ExprPtr right, ParseNot());
    ASSIGN_OR_RETURN(
        left, Binary(ExprKind::kAnd, "and", std::move(left), std::move(right)));
  }
  return left;
}

absl::StatusOr<ExprPtr> ExprParser::ParseNot() {
  if (!AtName("not")) return ParseCompare();
  const absl::Status entered = Enter();
  const NestingGuard guard(this);
  RETURN_IF_ERROR(entered);
  ExprPtr node = New(ExprKind::kNot);
  Skip();
  ASSIGN_OR_RETURN(ExprPtr operand, ParseNot());
  RETURN_IF_ERROR(Adopt(node.get(), std::move(operand)));
  return node;
}

absl::StatusOr<ExprPtr> ExprParser::ParseCompare() {
  ASSIGN_OR_RETURN(ExprPtr first, ParseSum());
  ExprPtr node = New(ExprKind::kCompare);
  RETURN_IF_ERROR(Adopt(node.get(), std::move(first)));
  while (true) {
    std::string op;
    for (const std::string_view symbol : {"==", "!=", "<", "<=", ">", ">="}) {
      if (AtOperator(symbol)) op = symbol;
    }
    const bool not_in =
        AtName("not") && Look().kind == TokenKind::kName && Look().text == "in";
    if (AtName("in")) op = "in";
    if (not_in) {
      op = "not in";
      Skip();
    }
    if (op.empty()) break;
    Skip();
    ASSIGN_OR_RETURN(ExprPtr operand, ParseSum());
    node->operators.push_back(std::move(op));
    RETURN_IF_ERROR(Adopt(node.get(), std::move(operand)));
  }
  if (node->operators.empty()) return std::move(node->children[0]);
  return node;
}

absl::StatusOr<ExprPtr> ExprParser::ParseSum() {
  ASSIGN_OR_RETURN(ExprPtr left, ParseConcat());
  while (AtOperator("+") || AtOperator("-")) {
    std::string op = Current().text;
    Skip();
    ASSIGN_OR_RETURN(ExprPtr right, ParseConcat());
    ASSIGN_OR_RETURN(left, Binary(ExprKind::kBinary, std::move(op),
                                  std::move(left), std::move(right)));
  }
  return left;
}

absl::StatusOr<ExprPtr> ExprParser::ParseConcat() {
  ASSIGN_OR_RETURN(ExprPtr first, ParseProduct());
  if (!AtOperator("~")) return first;
  ExprPtr node = New(ExprKind::kConcat);
  RETURN_IF_ERROR(Adopt(node.get(), std::move(first)));
  while (SkipOperator("~")) {
    ASSIGN_OR_RETURN(ExprPtr next, ParseProduct());
    RETURN_IF_ERROR(Adopt(node.get(), std::move(next)));
  }
  return node;
}

absl::StatusOr<ExprPtr> ExprParser::ParseProduct() {
  ASSIGN_OR_RETURN(ExprPtr left, ParsePower());
  while (AtOperator("*") || AtOperator("/") || AtOperator("//") ||
         AtOperator("%")) {
    std::string op = Current().text;
    Skip();
    ASSIGN_OR_RETURN(ExprPtr right, ParsePower());
    ASSIGN_OR_RETURN(left, Binary(ExprKind::kBinary, std::move(op),
                                  std::move(left), std::move(right)));
  }
  return left;
}

absl::StatusOr<ExprPtr> ExprParser::ParsePower() {
  ASSIGN_OR_RETURN(ExprPtr left, ParseUnary(true));
  while (SkipOperator("**")) {
    ASSIGN_OR_RETURN(ExprPtr right, ParseUnary(true));
    ASSIGN_OR_RETURN(left, Binary(ExprKind::kBinary, "**", std::move(left),
                                  std::move(right)));
  }
  return left;
}

absl::StatusOr<ExprPtr> ExprParser::ParseUnary(bool with_filters) {
  const absl::Status entered = Enter();
  const NestingGuard guard(this);
  RETURN_IF_ERROR(entered);
  ExprPtr node;
  if (AtOperator("-") || AtOperator("+")) {
    node = New(AtOperator("-") ? ExprKind::kNegate : ExprKind::kPlus);
    Skip();
    ASSIGN_OR_RETURN(ExprPtr operand, ParseUnary(false));
    RETURN_IF_ERROR(Adopt(node.get(), std::move(operand)));
  } else {
    ASSIGN_OR_RETURN(node, ParsePrimary());
  }
  ASSIGN_OR_RETURN(node, ParsePostfix(std::move(node)));
  if (!with_filters) return node;
  return ParsePostfixFilters(std::move(node));
}

absl::StatusOr<ExprPtr> ExprParser::ParseNumber() {
  ExprPtr node = New(ExprKind::kConstant);
  const std::string& text = Current().text;
  const char* const end = text.data() + text.size();
  if (Current().kind == TokenKind::kInteger) {
    int64_t value = 0;
    if (std::from_chars(text.data(), end, value).ec != std::errc()) {
      return Error("an integer beyond 64 bits");
    }
    node->constant = Value::Int(value);
  } else {
    double value = 0;
    if (std::from_chars(text.data(), end, value).ec != std::errc()) {
      return Error("a number out of range");
    }
    node->constant = Value::Float(value);
  }
  Skip();
  return node;
}

absl::StatusOr<ExprPtr> ExprParser::ParsePrimary() {
  const Token& token = Current();
  if (token.kind == TokenKind::kInteger || token.kind == TokenKind::kFloat) {
    return ParseNumber();
  }
  if (token.kind == TokenKind::kName) {
    const std::string& name = token.text;
    const bool yes = name == "true" || name == "True";
    const bool no = name == "false" || name == "False";
    const bool none = name == "none" || name == "None";
    ExprPtr node =
        New(yes || no || none ? ExprKind::kConstant : ExprKind::kName, name);
    if (yes || no) node->constant = Value::Bool(yes);
    if (none) node->constant = Value::MakeNone();
    Skip();
    return node;
  }
  if (token.kind == TokenKind::kString) {
    ExprPtr node = New(ExprKind::kConstant);
    std::string text;
    for (; Current().kind == TokenKind::kString; Skip()) {
      text += Current().text;
    }
    node->constant = Value::String(Text(std::move(text), true));
    return node;
  }
  if (SkipOperator("(")) {
    ASSIGN_OR_RETURN(ExprPtr node, ParseTuple(/*conditionals=*/true, "", true));
    RETURN_IF_ERROR(ExpectOperator(")"));
    return node;
  }
  if (AtOperator("[")) return ParseList();
  if (AtOperator("{")) return ParseDict();
  return Error(fmt::format("unexpected '{}'", token.text));
}

absl::StatusOr<ExprPtr> ExprParser::ParseList() {
  ExprPtr node = New(ExprKind::kList);
  Skip();
  while (!AtOperator("]")) {
    if (!node->children.empty()) {
      RETURN_IF_ERROR(ExpectOperator(","));
      if (AtOperator("]")) break;
    }
    ASSIGN_OR_RETURN(ExprPtr item, ParseExpression());
    RETURN_IF_ERROR(Adopt(node.get(), std::move(item)));
  }
  Skip();
  return node;
}

absl::StatusOr<ExprPtr> ExprParser::ParseDict() {
  ExprPtr node = New(ExprKind::kDict);
  Skip();
  while (!AtOperator("}")) {
    if (!node->children.empty()) {
      RETURN_IF_ERROR(ExpectOperator(","));
      if (AtOperator("}")) break;
    }
    ASSIGN_OR_RETURN(ExprPtr key, ParseExpression());
    RETURN_IF_ERROR(ExpectOperator(":"));
    ASSIGN_OR_RETURN(ExprPtr value, ParseExpression());
    RETURN_IF_ERROR(Adopt(node.get(), std::move(key)));
    RETURN_IF_ERROR(Adopt(node.get(), std::move(value)));
  }
  Skip();
  return node;
}

absl::StatusOr<ExprPtr> ExprParser::ParsePostfix(ExprPtr node) {
  while (true) {
    if (AtOperator(".") || AtOperator("[")) {
      ASSIGN_OR_RETURN(node, ParseSubscript(std::move(node)));
    } else if (AtOperator("(")) {
      ASSIGN_OR_RETURN(node, ParseCall(std::move(node)));
    } else {
      return node;
    }
  }
}

absl::StatusOr<ExprPtr> ExprParser::ParsePostfixFilters(ExprPtr node) {
  while (true) {
    if (AtOperator("|")) {
      ASSIGN_OR_RETURN(node, ParseFilters(std::move(node), false));
    } else if (AtName("is")) {
      ASSIGN_OR_RETURN(node, ParseTest(std::move(node)));
    } else if (AtOperator("(")) {
      ASSIGN_OR_RETURN(node, ParseCall(std::move(node)));
    } else {
      return node;
    }
  }
}

absl::StatusOr<ExprPtr> ExprParser::ParseSubscript(ExprPtr node) {
  ExprPtr out = New(ExprKind::kItem);
  RETURN_IF_ERROR(Adopt(out.get(), std::move(node)));
  if (SkipOperator(".")) {
    if (Current().kind == TokenKind::kName) {
      out->kind = ExprKind::kAttribute;
      out->text = Current().text;
      Skip();
      return out;
    }
    if (Current().kind != TokenKind::kInteger) {
      return Error("expected a name or a number");
    }
    ASSIGN_OR_RETURN(ExprPtr index, ParseNumber());
    RETURN_IF_ERROR(Adopt(out.get(), std::move(index)));
    return out;
  }
  Skip();  // [
  ExprPtr parts[3];
  int colons = 0;
  while (!AtOperator("]")) {
    if (AtOperator(":")) {
      if (++colons > 2) return Error("a slice has at most three parts");
      Skip();
      continue;
    }
    if (parts[colons] != nullptr) return Error("expected ']'");
    ASSIGN_OR_RETURN(parts[colons], ParseExpression());
  }
  Skip();
  if (colons == 0 && parts[0] == nullptr) {
    return Error("expected a subscript");
  }
  if (colons > 0) out->kind = ExprKind::kSlice;
  for (int i = 0; i < (colons > 0 ? 3 : 1); ++i) {
    RETURN_IF_ERROR(Adopt(out.get(), std::move(parts[i])));
  }
  return out;
}

absl::Status ExprParser::ParseArguments(Expr* call) {
  RETURN_IF_ERROR(ExpectOperator("("));
  bool first = true;
  while (!AtOperator(")")) {
    if (!first) {
      RETURN_IF_ERROR(ExpectOperator(","));
      if (AtOperator(")")) break;
    }
    first = false;
    if (AtOperator("*") || AtOperator("**")) {
      ExprPtr& star = AtOperator("*") ? call->star_args : call->star_kwargs;
      if (star != nullptr || call->star_kwargs != nullptr) {
        return Error("arguments in the wrong order");
      }
      Skip();
      ASSIGN_OR_RETURN(star, ParseExpression());
      RETURN_IF_ERROR(Deepen(call, star.get()));
    } else if (Current().kind == TokenKind::kName &&
               Look().kind == TokenKind::kOperator && Look().text == "=") {
      if (call->star_kwargs) return Error("arguments in the wrong order");
      std::string name = Current().text;
      Skip();
      Skip();
      ASSIGN_OR_RETURN(ExprPtr value, ParseExpression());
      RETURN_IF_ERROR(Deepen(call, value.get()));
      call->kwargs.emplace_back(std::move(name), std::move(value));
    } else {
      if (!call->kwargs.empty() || call->star_args || call->star_kwargs) {
        return Error("arguments in the wrong order");
      }
      ASSIGN_OR_RETURN(ExprPtr value, ParseExpression());
      RETURN_IF_ERROR(Deepen(call, value.get()));
      call->args.push_back(std::move(value));
    }
  }
  return ExpectOperator(")");
}

absl::StatusOr<ExprPtr> ExprParser::ParseCall(ExprPtr node) {
  ExprPtr call = New(ExprKind::kCall);
  RETURN_IF_ERROR(Adopt(call.get(), std::move(node)));
  RETURN_IF_ERROR(ParseArguments(call.get()));
  return call;
}

absl::StatusOr<ExprPtr> ExprParser::ParseFilters(ExprPtr first,
                                                 bool starts_inline) {
  ExprPtr node = std::move(first);
  while (starts_inline || SkipOperator("|")) {
    starts_inline = false;
    ExprPtr filter = New(ExprKind::kFilter);
    RETURN_IF_ERROR(Adopt(filter.get(), std::move(node)));
    ASSIGN_OR_RETURN(filter->text, ExpectName());
    if (AtOperator("(")) RETURN_IF_ERROR(ParseArguments(filter.get()));
    node = std::move(filter);
  }
  return node;
}

absl::StatusOr<ExprPtr> ExprParser::ParseTest(ExprPtr node) {
  Skip();  // is
  const bool negated = SkipName("not");
  ExprPtr test = New(ExprKind::kTest);
  RETURN_IF_ERROR(Adopt(test.get(), std::move(node)));
  ASSIGN_OR_RETURN(test->text, ExpectName());
  const TokenKind kind = Current().kind;
  const bool argument =
      (kind == TokenKind::kName && !AtName("else") && !AtName("or") &&
       !AtName("and")) ||
      kind == TokenKind::kString || kind == TokenKind::kInteger ||
      kind == TokenKind::kFloat || AtOperator("[") || AtOperator("{");
  if (AtOperator("(")) {
    RETURN_IF_ERROR(ParseArguments(test.get()));
  } else if (argument) {
    if (AtName("is")) return Error("tests cannot be chained");
    ASSIGN_OR_RETURN(ExprPtr value, ParsePrimary());
    ASSIGN_OR_RETURN(value, ParsePostfix(std::move(value)));
    RETURN_IF_ERROR(Deepen(test.get(), value.get()));
    test->args.push_back(std::move(value));
  }
  if (!negated) return test;
  ExprPtr inverted = New(ExprKind::kNot);
  RETURN_IF_ERROR(Adopt(inverted.get(), std::move(test)));
  return inverted;
}

}  // namespace conclave::engine
