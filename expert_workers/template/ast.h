// A parsed template. Nodes are owned by their parents and never change.
#ifndef CONCLAVE_EXPERT_WORKERS_TEMPLATE_AST_H_
#define CONCLAVE_EXPERT_WORKERS_TEMPLATE_AST_H_

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "expert_workers/template/value.h"

namespace conclave::engine {

enum class ExprKind : uint8_t {
  kConstant,     // constant
  kName,         // text
  kAttribute,    // children[0] . text
  kItem,         // children[0] [ children[1] ]
  kSlice,        // children[0] [ children[1] : [2] : [3] ]; null where left out
  kCall,         // children[0] ( args )
  kFilter,       // children[0] | text ( args ); children[0] null in a block
  kTest,         // children[0] is text ( args )
  kNot,          // children[0]
  kNegate,       // children[0]
  kPlus,         // children[0]
  kBinary,       // children[0] text children[1]
  kAnd,          // children[0], children[1]
  kOr,           // children[0], children[1]
  kCompare,      // children[0] operators[0] children[1] operators[1] ...
  kConcat,       // children ~ ...
  kConditional,  // children[1] if children[0] else children[2] (may be null)
  kList,         // children
  kTuple,        // children
  kDict,         // children: key, value, key, value
};

struct Expr;
using ExprPtr = std::unique_ptr<Expr>;

struct Expr {
  ExprKind kind;
  int line = 0;
  int depth = 1;  // 1 + the deepest child's
  std::string text;
  Value constant;
  std::vector<ExprPtr> children;
  std::vector<std::string> operators;
  std::vector<ExprPtr> args;
  std::vector<std::pair<std::string, ExprPtr>> kwargs;
  ExprPtr star_args;    // *expr
  ExprPtr star_kwargs;  // **expr
};

// What `set` and `for` assign to: a name, a namespace's attribute, or a
// tuple of targets.
struct Target {
  std::string name;
  std::string attribute;
  std::vector<Target> tuple;
};

enum class StmtKind : uint8_t {
  kData,         // text
  kOutput,       // expr
  kIf,           // branches, otherwise
  kFor,          // target in expr if filter: body, otherwise
  kSet,          // target = expr
  kSetBlock,     // target = body | expr (a filter chain, may be null)
  kMacro,        // text ( parameters ): body
  kCallBlock,    // ( parameters ) expr: body
  kFilterBlock,  // expr (a filter chain): body
  kWith,         // assignments: body
  kScope,        // body, in a scope of its own
  kBreak,
  kContinue,
};

struct Stmt;
using Body = std::vector<std::unique_ptr<Stmt>>;

struct Parameter {
  std::string name;
  ExprPtr default_value;  // may be null
};

struct Stmt {
  StmtKind kind;
  int line = 0;
  std::string text;
  Target target;
  ExprPtr expr;
  ExprPtr filter;
  std::vector<std::pair<ExprPtr, Body>> branches;
  std::vector<std::pair<Target, ExprPtr>> assignments;
  std::vector<Parameter> parameters;
  Body body;
  Body otherwise;
};

}  // namespace conclave::engine

#endif  // CONCLAVE_EXPERT_WORKERS_TEMPLATE_AST_H_
