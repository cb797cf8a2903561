#include "expert_workers/template/parser.h"

#include <algorithm>
#include <initializer_list>

#include "expert_workers/template/expr_parser.h"

namespace conclave::engine {
namespace {

using StmtPtr = std::unique_ptr<Stmt>;
using Words = std::initializer_list<std::string_view>;

class Parser {
 public:
  explicit Parser(std::vector<Token> tokens) : expr_(std::move(tokens)) {}

  absl::StatusOr<Body> Run() {
    ASSIGN_OR_RETURN(Body body, ParseBody({}));
    return body;
  }

 private:
  StmtPtr New(StmtKind kind) const {
    auto stmt = std::make_unique<Stmt>();
    stmt->kind = kind;
    stmt->line = expr_.Current().line;
    return stmt;
  }

  absl::Status ExpectKind(TokenKind kind, std::string_view what) {
    if (expr_.Current().kind != kind) {
      return expr_.Error(fmt::format("expected the end of the {}, found '{}'",
                                     what, expr_.Current().text));
    }
    expr_.Skip();
    return absl::OkStatus();
  }

  // Statements up to a tag of one of `ends`, whose name is then current;
  // without `ends`, up to the end of the source.
  absl::StatusOr<Body> ParseBody(Words ends) {
    Body body;
    while (expr_.Current().kind != TokenKind::kEnd) {
      const TokenKind kind = expr_.Current().kind;
      if (kind == TokenKind::kData) {
        StmtPtr data = New(StmtKind::kData);
        data->text = expr_.Current().text;
        expr_.Skip();
        body.push_back(std::move(data));
      } else if (kind == TokenKind::kVariableBegin) {
        StmtPtr output = New(StmtKind::kOutput);
        expr_.Skip();
        ASSIGN_OR_RETURN(output->expr, expr_.ParseTuple(true));
        RETURN_IF_ERROR(ExpectKind(TokenKind::kVariableEnd, "expression"));
        body.push_back(std::move(output));
      } else {
        expr_.Skip();  // {%
        for (const std::string_view end : ends) {
          if (expr_.AtName(end)) return body;
        }
        ASSIGN_OR_RETURN(StmtPtr stmt, ParseStatement());
        body.push_back(std::move(stmt));
        RETURN_IF_ERROR(ExpectKind(TokenKind::kBlockEnd, "statement"));
      }
    }
    if (ends.size() != 0) {
      return expr_.Error(fmt::format("'{}' is missing", *(ends.end() - 1)));
    }
    return body;
  }

  // "%} ... {% end": the tag's own end, a body, and the name of its end.
  absl::StatusOr<Body> ParseBlock(Words ends) {
    expr_.SkipOperator(":");
    RETURN_IF_ERROR(ExpectKind(TokenKind::kBlockEnd, "statement"));
    const absl::Status entered = expr_.Enter();
    absl::StatusOr<Body> body =
        entered.ok() ? ParseBody(ends) : absl::StatusOr<Body>(entered);
    expr_.Leave();
    return body;
  }

  absl::StatusOr<Body> ParseWholeBlock(std::string_view end) {
    ASSIGN_OR_RETURN(Body body, ParseBlock({end}));
    expr_.Skip();
    return body;
  }

  absl::StatusOr<StmtPtr> ParseStatement() {
    ASSIGN_OR_RETURN(const std::string word, expr_.ExpectName());
    if (word == "if") return ParseIf();
    if (word == "for") return ParseFor();
    if (word == "set") return ParseSet();
    if (word == "macro") return ParseMacro();
    if (word == "call") return ParseCallBlock();
    if (word == "filter") return ParseFilterBlock();
    if (word == "with") return ParseWith();
    if (word == "generation") return ParseGeneration();
    if (word == "break") return ParseJump(StmtKind::kBreak);
    if (word == "continue") return ParseJump(StmtKind::kContinue);
    return expr_.Error(fmt::format("tag '{}' is not supported here", word));
  }

  absl::StatusOr<StmtPtr> ParseJump(StmtKind kind) {
    if (loops_ == 0) return expr_.Error("break or continue outside a loop");
    return New(kind);
  }

  absl::StatusOr<StmtPtr> ParseIf() {
    StmtPtr stmt = New(StmtKind::kIf);
    while (true) {
      ASSIGN_OR_RETURN(ExprPtr condition, expr_.ParseTuple(false));
      ASSIGN_OR_RETURN(Body body, ParseBlock({"elif", "else", "endif"}));
      stmt->branches.emplace_back(std::move(condition), std::move(body));
      if (expr_.SkipName("elif")) continue;
      if (expr_.SkipName("else")) {
        ASSIGN_OR_RETURN(stmt->otherwise, ParseBlock({"endif"}));
      }
      expr_.Skip();
      return stmt;
    }
  }

  absl::StatusOr<Target> ParseTargetItem(bool attributes) {
    if (expr_.SkipOperator("(")) {
      const absl::Status entered = expr_.Enter();
      auto target = entered.ok() ? ParseTarget(attributes)
                                 : absl::StatusOr<Target>(entered);
      expr_.Leave();
      RETURN_IF_ERROR(target);
      RETURN_IF_ERROR(expr_.ExpectOperator(")"));
      return target;
    }
    Target target;
    ASSIGN_OR_RETURN(target.name, expr_.ExpectName());
    for (const std::string_view reserved :
         {"true", "True", "false", "False", "none", "None"}) {
      if (target.name == reserved) {
        return expr_.Error(fmt::format("cannot assign to '{}'", reserved));
      }
    }
    if (attributes && expr_.SkipOperator(".")) {
      ASSIGN_OR_RETURN(target.attribute, expr_.ExpectName());
    }
    return target;
  }

  absl::StatusOr<Target> ParseTarget(bool attributes) {
    ASSIGN_OR_RETURN(Target first, ParseTargetItem(attributes));
    if (!expr_.AtOperator(",")) return first;
    Target tuple;
    tuple.tuple.push_back(std::move(first));
    while (expr_.SkipOperator(",")) {
      if (expr_.Current().kind != TokenKind::kName && !expr_.AtOperator("(")) {
        break;
      }
      if (expr_.AtName("in")) break;
      ASSIGN_OR_RETURN(Target next, ParseTargetItem(attributes));
      tuple.tuple.push_back(std::move(next));
    }
    return tuple;
  }

  absl::StatusOr<StmtPtr> ParseFor() {
    StmtPtr stmt = New(StmtKind::kFor);
    ASSIGN_OR_RETURN(stmt->target, ParseTarget(/*attributes=*/false));
    if (stmt->target.name == "loop") {
      return expr_.Error("cannot assign to 'loop' in a loop");
    }
    if (!expr_.SkipName("in")) return expr_.Error("expected 'in'");
    ASSIGN_OR_RETURN(stmt->expr, expr_.ParseTuple(false, "recursive"));
    if (expr_.SkipName("if")) {
      ASSIGN_OR_RETURN(stmt->filter, expr_.ParseExpression());
    }
    if (expr_.AtName("recursive")) {
      return expr_.Error("recursive loops are not supported");
    }
    ++loops_;
    auto body = ParseBlock({"else", "endfor"});
    --loops_;
    RETURN_IF_ERROR(body);
    stmt->body = *std::move(body);
    if (expr_.SkipName("else")) {
      ASSIGN_OR_RETURN(stmt->otherwise, ParseBlock({"endfor"}));
    }
    expr_.Skip();
    return stmt;
  }

  absl::StatusOr<StmtPtr> ParseSet() {
    StmtPtr stmt = New(StmtKind::kSet);
    ASSIGN_OR_RETURN(stmt->target, ParseTarget(/*attributes=*/true));
    if (expr_.SkipOperator("=")) {
      ASSIGN_OR_RETURN(stmt->expr, expr_.ParseTuple(true));
      return stmt;
    }
    stmt->kind = StmtKind::kSetBlock;
    ASSIGN_OR_RETURN(stmt->expr, expr_.ParseFilters(nullptr, false));
    ASSIGN_OR_RETURN(stmt->body, ParseWholeBlock("endset"));
    return stmt;
  }

  absl::Status ParseParameters(Stmt* stmt) {
    RETURN_IF_ERROR(expr_.ExpectOperator("("));
    while (!expr_.AtOperator(")")) {
      if (!stmt->parameters.empty()) {
        RETURN_IF_ERROR(expr_.ExpectOperator(","));
      }
      Parameter parameter;
      ASSIGN_OR_RETURN(parameter.name, expr_.ExpectName());
      if (expr_.SkipOperator("=")) {
        ASSIGN_OR_RETURN(parameter.default_value, expr_.ParseExpression());
      } else if (!stmt->parameters.empty() &&
                 stmt->parameters.back().default_value) {
        return expr_.Error("a parameter without default after one with");
      }
      stmt->parameters.push_back(std::move(parameter));
    }
    return expr_.ExpectOperator(")");
  }

  // The body of a macro starts outside every loop of its surroundings.
  absl::StatusOr<Body> ParseFunctionBlock(std::string_view end) {
    const int loops = std::exchange(loops_, 0);
    auto body = ParseWholeBlock(end);
    loops_ = loops;
    return body;
  }

  absl::StatusOr<StmtPtr> ParseMacro() {
    StmtPtr stmt = New(StmtKind::kMacro);
    ASSIGN_OR_RETURN(stmt->text, expr_.ExpectName());
    RETURN_IF_ERROR(ParseParameters(stmt.get()));
    ASSIGN_OR_RETURN(stmt->body, ParseFunctionBlock("endmacro"));
    return stmt;
  }

  absl::StatusOr<StmtPtr> ParseCallBlock() {
    StmtPtr stmt = New(StmtKind::kCallBlock);
    if (expr_.AtOperator("(")) RETURN_IF_ERROR(ParseParameters(stmt.get()));
    ASSIGN_OR_RETURN(stmt->expr, expr_.ParseExpression());
    if (stmt->expr->kind != ExprKind::kCall) {
      return expr_.Error("expected a call");
    }
    ASSIGN_OR_RETURN(stmt->body, ParseFunctionBlock("endcall"));
    return stmt;
  }

  absl::StatusOr<StmtPtr> ParseFilterBlock() {
    StmtPtr stmt = New(StmtKind::kFilterBlock);
    ASSIGN_OR_RETURN(stmt->expr, expr_.ParseFilters(nullptr, true));
    ASSIGN_OR_RETURN(stmt->body, ParseWholeBlock("endfilter"));
    return stmt;
  }

  absl::StatusOr<StmtPtr> ParseWith() {
    StmtPtr stmt = New(StmtKind::kWith);
    while (expr_.Current().kind != TokenKind::kBlockEnd) {
      if (!stmt->assignments.empty()) {
        RETURN_IF_ERROR(expr_.ExpectOperator(","));
      }
      ASSIGN_OR_RETURN(Target target, ParseTargetItem(false));
      RETURN_IF_ERROR(expr_.ExpectOperator("="));
      ASSIGN_OR_RETURN(ExprPtr value, expr_.ParseExpression());
      stmt->assignments.emplace_back(std::move(target), std::move(value));
    }
    ASSIGN_OR_RETURN(stmt->body, ParseWholeBlock("endwith"));
    return stmt;
  }

  // transformers marks the assistant's words with it; rendering ignores it.
  absl::StatusOr<StmtPtr> ParseGeneration() {
    StmtPtr stmt = New(StmtKind::kScope);
    ASSIGN_OR_RETURN(stmt->body, ParseFunctionBlock("endgeneration"));
    return stmt;
  }

  ExprParser expr_;
  int loops_ = 0;
};

}  // namespace

absl::StatusOr<Body> ParseTemplate(std::string_view source) {
  ASSIGN_OR_RETURN(std::vector<Token> tokens, Lex(source));
  return Parser(std::move(tokens)).Run();
}

}  // namespace conclave::engine
