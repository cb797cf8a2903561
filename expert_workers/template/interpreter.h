// Runs a parsed template. One object renders once, on one thread.
//
// Errors, at every level:
//   INVALID_ARGUMENT     the template called raise_exception; its message
//   FAILED_PRECONDITION  what Python would raise: undefined, wrong types
//   RESOURCE_EXHAUSTED   steps, depth, output or memory
#ifndef CONCLAVE_EXPERT_WORKERS_TEMPLATE_INTERPRETER_H_
#define CONCLAVE_EXPERT_WORKERS_TEMPLATE_INTERPRETER_H_

#include <absl/time/time.h>

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "expert_workers/template/ast.h"
#include "expert_workers/template/value.h"

namespace conclave::engine {

// Names and values of one block; parents are looked through outwards.
struct Scope {
  std::shared_ptr<Scope> parent;
  absl::flat_hash_map<std::string, Value> variables;
};

// `loop` inside a for.
struct LoopState {
  Values items;
  size_t index = 0;
  std::optional<std::string> last_changed;
};

class Interpreter {
 public:
  static constexpr size_t kMaxOutputBytes = size_t{8} << 20;
  static constexpr int kMaxMacroDepth = 64;
  // Nested evaluations, over all macros: bounds the machine's stack.
  static constexpr int kMaxEvalDepth = 512;

  struct Clock {
    absl::Time now;
    absl::TimeZone zone;
  };

  explicit Interpreter(Clock clock);
  ~Interpreter();
  Interpreter(const Interpreter&) = delete;
  Interpreter& operator=(const Interpreter&) = delete;

  void SetVariable(std::string name, Value value);
  absl::StatusOr<Text> Run(const Body& body);

  // For filters, tests and methods.
  Budget* budget() { return &budget_; }
  const Clock& clock() const { return clock_; }
  absl::StatusOr<Value> ApplyFilter(std::string_view name, const Value& input,
                                    const Call& call);
  absl::StatusOr<bool> ApplyTest(std::string_view name, const Value& input,
                                 const Call& call);
  absl::StatusOr<Value> GetAttribute(const Value& object,
                                     std::string_view name);
  absl::StatusOr<Value> GetItem(const Value& object, const Value& key);
  // Whoever is called looks at each text that it is given once, at least.
  absl::Status PayForTexts(const Call& call);
  absl::StatusOr<Values> Iterate(const Value& value);
  absl::StatusOr<Value> Concat(const Text& a, const Text& b);
  // A string whose size is paid for.
  absl::StatusOr<Value> NewString(Text text);
  absl::StatusOr<Value> NewList(Values items, bool tuple = false);
  absl::StatusOr<Value> NewLazy(Values items);
  std::shared_ptr<Namespace> NewNamespace();

 private:
  enum class Flow : uint8_t { kNext, kBreak, kContinue };
  using ScopePtr = std::shared_ptr<Scope>;

  // Statements (interpreter.cc).
  absl::StatusOr<Flow> RunBody(const Body& body, const ScopePtr& scope,
                               Text* out);
  absl::StatusOr<Flow> RunStmt(const Stmt& stmt, const ScopePtr& scope,
                               Text* out);
  absl::Status Emit(const Text& text, Text* out);
  absl::StatusOr<Flow> RunIf(const Stmt& stmt, const ScopePtr& scope,
                             Text* out);
  absl::StatusOr<Flow> RunFor(const Stmt& stmt, const ScopePtr& scope,
                              Text* out);
  absl::StatusOr<Flow> RunLoop(const Stmt& stmt, const ScopePtr& scope,
                               const std::shared_ptr<LoopState>& loop,
                               Text* out);
  absl::Status RunOutput(const Stmt& stmt, const ScopePtr& scope, Text* out);
  absl::Status RunSet(const Stmt& stmt, const ScopePtr& scope);
  absl::Status RunSetBlock(const Stmt& stmt, const ScopePtr& scope);
  absl::Status RunCallBlock(const Stmt& stmt, const ScopePtr& scope, Text* out);
  absl::Status RunFilterBlock(const Stmt& stmt, const ScopePtr& scope,
                              Text* out);
  absl::StatusOr<Flow> RunWith(const Stmt& stmt, const ScopePtr& scope,
                               Text* out);
  absl::Status Assign(const Target& target, const Value& value, Scope* scope);
  Value MakeMacro(const Stmt& stmt, const ScopePtr& scope);
  absl::StatusOr<Value> CallMacro(const Stmt& stmt,
                                  const std::weak_ptr<Scope>& closure,
                                  const Call& call);

  // Expressions (evaluator.cc).
  absl::StatusOr<Value> Eval(const Expr& expr, const ScopePtr& scope);
  absl::StatusOr<Value> EvalNode(const Expr& expr, const ScopePtr& scope);
  Value LookUp(std::string_view name, const Scope* scope) const;
  absl::StatusOr<Value> EvalSlice(const Expr& expr, const ScopePtr& scope);
  absl::StatusOr<Value> EvalCall(const Expr& expr, const ScopePtr& scope,
                                 const Value* caller);
  absl::StatusOr<Call> EvalArguments(const Expr& expr, const ScopePtr& scope);
  absl::StatusOr<Value> EvalFilter(const Expr& expr, const ScopePtr& scope,
                                   const Value* block);
  absl::StatusOr<Value> EvalCompare(const Expr& expr, const ScopePtr& scope);
  absl::StatusOr<Value> EvalUnary(const Expr& expr, const ScopePtr& scope);
  absl::StatusOr<Value> EvalLogic(const Expr& expr, const ScopePtr& scope);
  absl::StatusOr<Value> EvalConcat(const Expr& expr, const ScopePtr& scope);
  absl::StatusOr<Value> EvalList(const Expr& expr, const ScopePtr& scope);
  absl::StatusOr<Value> EvalDict(const Expr& expr, const ScopePtr& scope);
  absl::StatusOr<bool> Compare(std::string_view op, const Value& a,
                               const Value& b);
  absl::StatusOr<bool> Contains(const Value& container, const Value& item);

  Clock clock_;
  Budget budget_;
  ScopePtr globals_;
  // Namespaces can hold each other in circles; they are emptied at the end.
  std::vector<std::shared_ptr<Namespace>> namespaces_;
  int macro_depth_ = 0;
  int eval_depth_ = 0;
};

// a op b for + - * / // % ** (operators.cc).
absl::StatusOr<Value> BinaryOperator(Interpreter* interpreter,
                                     std::string_view op, const Value& a,
                                     const Value& b);

// Python's methods of str, list and dict (methods.cc).
bool HasMethod(const Value& object, std::string_view name);
absl::StatusOr<Value> CallMethod(Interpreter* interpreter, const Value& object,
                                 std::string_view name, const Call& call);

// range, dict, namespace, raise_exception, strftime_now (functions.cc).
void AddGlobals(Interpreter* interpreter);

}  // namespace conclave::engine

#endif  // CONCLAVE_EXPERT_WORKERS_TEMPLATE_INTERPRETER_H_
