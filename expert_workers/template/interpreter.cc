#include "expert_workers/template/interpreter.h"

#include <algorithm>

#include "expert_workers/template/value_format.h"

namespace conclave::engine {

Interpreter::Interpreter(Clock clock)
    : clock_(clock), globals_(std::make_shared<Scope>()) {
  AddGlobals(this);
}

Interpreter::~Interpreter() {
  for (const auto& ns : namespaces_) ns->attributes = Dict();
}

void Interpreter::SetVariable(std::string name, Value value) {
  globals_->variables[std::move(name)] = std::move(value);
}

std::shared_ptr<Namespace> Interpreter::NewNamespace() {
  namespaces_.push_back(std::make_shared<Namespace>());
  return namespaces_.back();
}

absl::StatusOr<Value> Interpreter::NewString(Text text) {
  if (text.size() > kMaxOutputBytes) {
    return ResourceExhausted("template builds a string of {} bytes",
                             text.size());
  }
  RETURN_IF_ERROR(budget_.Bytes(text.size()));
  return Value::String(std::move(text));
}

absl::StatusOr<Value> Interpreter::NewList(Values items, bool tuple) {
  RETURN_IF_ERROR(budget_.Bytes(items.size() * sizeof(Value)));
  return CheckDepth(Value::MakeList(std::move(items), tuple));
}

absl::StatusOr<Value> Interpreter::NewLazy(Values items) {
  RETURN_IF_ERROR(budget_.Bytes(items.size() * sizeof(Value)));
  return CheckDepth(Value::MakeLazy(std::move(items)));
}

absl::StatusOr<Text> Interpreter::Run(const Body& body) {
  Text out;
  auto scope = std::make_shared<Scope>();
  scope->parent = globals_;
  RETURN_IF_ERROR(RunBody(body, scope, &out));
  return out;
}

absl::Status Interpreter::Emit(const Text& text, Text* out) {
  if (out->size() + text.size() > kMaxOutputBytes) {
    return ResourceExhausted("template output passes {} bytes",
                             kMaxOutputBytes);
  }
  RETURN_IF_ERROR(budget_.Bytes(text.size()));
  out->Append(text);
  return absl::OkStatus();
}

absl::StatusOr<Interpreter::Flow> Interpreter::RunBody(const Body& body,
                                                       const ScopePtr& scope,
                                                       Text* out) {
  for (const auto& stmt : body) {
    absl::StatusOr<Flow> flow = RunStmt(*stmt, scope, out);
    if (!flow.ok()) {
      const bool told = Message(flow.status()).starts_with("template line");
      if (flow.status().code() != absl::StatusCode::kFailedPrecondition ||
          told) {
        return flow;
      }
      return Annotate(flow.status(),
                      fmt::format("template line {}", stmt->line));
    }
    if (*flow != Flow::kNext) return flow;
  }
  return Flow::kNext;
}

absl::StatusOr<Interpreter::Flow> Interpreter::RunStmt(const Stmt& stmt,
                                                       const ScopePtr& scope,
                                                       Text* out) {
  RETURN_IF_ERROR(budget_.Step());
  switch (stmt.kind) {
    case StmtKind::kData:
      RETURN_IF_ERROR(Emit(Text(stmt.text, true), out));
      return Flow::kNext;
    case StmtKind::kOutput:
      RETURN_IF_ERROR(RunOutput(stmt, scope, out));
      return Flow::kNext;
    case StmtKind::kIf:
      return RunIf(stmt, scope, out);
    case StmtKind::kFor:
      return RunFor(stmt, scope, out);
    case StmtKind::kSet:
      RETURN_IF_ERROR(RunSet(stmt, scope));
      return Flow::kNext;
    case StmtKind::kSetBlock:
      RETURN_IF_ERROR(RunSetBlock(stmt, scope));
      return Flow::kNext;
    case StmtKind::kMacro:
      scope->variables[stmt.text] = MakeMacro(stmt, scope);
      return Flow::kNext;
    case StmtKind::kCallBlock:
      RETURN_IF_ERROR(RunCallBlock(stmt, scope, out));
      return Flow::kNext;
    case StmtKind::kFilterBlock:
      RETURN_IF_ERROR(RunFilterBlock(stmt, scope, out));
      return Flow::kNext;
    case StmtKind::kWith:
    case StmtKind::kScope:
      return RunWith(stmt, scope, out);
    case StmtKind::kBreak:
      return Flow::kBreak;
    case StmtKind::kContinue:
      return Flow::kContinue;
  }
  return Internal("statement kind {}", static_cast<int>(stmt.kind));
}

absl::Status Interpreter::RunOutput(const Stmt& stmt, const ScopePtr& scope,
                                    Text* out) {
  ASSIGN_OR_RETURN(const Value value, Eval(*stmt.expr, scope));
  ASSIGN_OR_RETURN(const Text text, ToText(value, &budget_));
  return Emit(text, out);
}

absl::StatusOr<Interpreter::Flow> Interpreter::RunIf(const Stmt& stmt,
                                                     const ScopePtr& scope,
                                                     Text* out) {
  for (const auto& [condition, body] : stmt.branches) {
    ASSIGN_OR_RETURN(const Value value, Eval(*condition, scope));
    if (value.Truth()) return RunBody(body, scope, out);
  }
  return RunBody(stmt.otherwise, scope, out);
}

absl::StatusOr<Interpreter::Flow> Interpreter::RunFor(const Stmt& stmt,
                                                      const ScopePtr& scope,
                                                      Text* out) {
  ASSIGN_OR_RETURN(const Value iterable, Eval(*stmt.expr, scope));
  auto loop = std::make_shared<LoopState>();
  ASSIGN_OR_RETURN(loop->items, Iterate(iterable));
  if (stmt.filter) {
    Values kept;
    auto inner = std::make_shared<Scope>();
    inner->parent = scope;
    for (Value& item : loop->items) {
      inner->variables.clear();
      RETURN_IF_ERROR(Assign(stmt.target, item, inner.get()));
      ASSIGN_OR_RETURN(const Value keep, Eval(*stmt.filter, inner));
      if (keep.Truth()) kept.push_back(std::move(item));
    }
    loop->items = std::move(kept);
  }
  if (loop->items.empty()) return RunBody(stmt.otherwise, scope, out);
  absl::StatusOr<Flow> flow = RunLoop(stmt, scope, loop, out);
  // A `loop` that was kept must not keep its items: chains of loops in loops
  // would be destroyed recursively.
  loop->items.clear();
  return flow;
}

absl::StatusOr<Interpreter::Flow> Interpreter::RunLoop(
    const Stmt& stmt, const ScopePtr& scope,
    const std::shared_ptr<LoopState>& loop, Text* out) {
  auto inner = std::make_shared<Scope>();
  inner->parent = scope;
  for (; loop->index < loop->items.size(); ++loop->index) {
    RETURN_IF_ERROR(budget_.Step());
    inner->variables.clear();
    inner->variables["loop"] = Value::MakeLoop(loop);
    RETURN_IF_ERROR(Assign(stmt.target, loop->items[loop->index], inner.get()));
    ASSIGN_OR_RETURN(const Flow flow, RunBody(stmt.body, inner, out));
    if (flow == Flow::kBreak) break;
  }
  return Flow::kNext;
}

absl::Status Interpreter::Assign(const Target& target, const Value& value,
                                 Scope* scope) {
  if (!target.tuple.empty()) {
    ASSIGN_OR_RETURN(const Values items, Iterate(value));
    if (items.size() != target.tuple.size()) {
      return FailedPrecondition("{} values to unpack into {} names",
                                items.size(), target.tuple.size());
    }
    for (size_t i = 0; i < items.size(); ++i) {
      RETURN_IF_ERROR(Assign(target.tuple[i], items[i], scope));
    }
    return absl::OkStatus();
  }
  if (target.attribute.empty()) {
    scope->variables[target.name] = value;
    return absl::OkStatus();
  }
  const Value ns = LookUp(target.name, scope);
  if (!ns.IsNamespace()) {
    return FailedPrecondition("cannot assign attribute on non-namespace '{}'",
                              target.name);
  }
  if (target.attribute.starts_with('_')) {
    return FailedPrecondition("namespace attributes may not start with '_'");
  }
  ns.name_space()->attributes.Set(Value::Trusted(target.attribute), value);
  return absl::OkStatus();
}

absl::Status Interpreter::RunSet(const Stmt& stmt, const ScopePtr& scope) {
  ASSIGN_OR_RETURN(const Value value, Eval(*stmt.expr, scope));
  return Assign(stmt.target, value, scope.get());
}

absl::Status Interpreter::RunSetBlock(const Stmt& stmt, const ScopePtr& scope) {
  auto inner = std::make_shared<Scope>();
  inner->parent = scope;
  Text text;
  RETURN_IF_ERROR(RunBody(stmt.body, inner, &text));
  Value value = Value::String(std::move(text));
  if (stmt.expr) {
    ASSIGN_OR_RETURN(value, EvalFilter(*stmt.expr, scope, &value));
  }
  return Assign(stmt.target, value, scope.get());
}

absl::Status Interpreter::RunCallBlock(const Stmt& stmt, const ScopePtr& scope,
                                       Text* out) {
  const Value caller = MakeMacro(stmt, scope);
  ASSIGN_OR_RETURN(const Value value, EvalCall(*stmt.expr, scope, &caller));
  ASSIGN_OR_RETURN(const Text text, ToText(value, &budget_));
  return Emit(text, out);
}

absl::Status Interpreter::RunFilterBlock(const Stmt& stmt,
                                         const ScopePtr& scope, Text* out) {
  auto inner = std::make_shared<Scope>();
  inner->parent = scope;
  Text text;
  RETURN_IF_ERROR(RunBody(stmt.body, inner, &text));
  const Value block = Value::String(std::move(text));
  ASSIGN_OR_RETURN(const Value value, EvalFilter(*stmt.expr, scope, &block));
  ASSIGN_OR_RETURN(const Text filtered, ToText(value, &budget_));
  return Emit(filtered, out);
}

absl::StatusOr<Interpreter::Flow> Interpreter::RunWith(const Stmt& stmt,
                                                       const ScopePtr& scope,
                                                       Text* out) {
  auto inner = std::make_shared<Scope>();
  inner->parent = scope;
  for (const auto& [target, expr] : stmt.assignments) {
    ASSIGN_OR_RETURN(const Value value, Eval(*expr, scope));
    RETURN_IF_ERROR(Assign(target, value, inner.get()));
  }
  return RunBody(stmt.body, inner, out);
}

Value Interpreter::MakeMacro(const Stmt& stmt, const ScopePtr& scope) {
  // Weak: the scope holds the macro.
  const std::weak_ptr<Scope> closure = scope;
  return Value::MakeCallable(
      {stmt.text, [this, &stmt, closure](const Call& call) {
         return CallMacro(stmt, closure, call);
       }});
}

absl::StatusOr<Value> Interpreter::CallMacro(
    const Stmt& stmt, const std::weak_ptr<Scope>& closure, const Call& call) {
  auto scope = std::make_shared<Scope>();
  scope->parent = closure.lock();
  if (scope->parent == nullptr) {
    return FailedPrecondition("macro '{}' outlived its block", stmt.text);
  }
  if (macro_depth_ >= kMaxMacroDepth) {
    return ResourceExhausted("macros nested deeper than {}", kMaxMacroDepth);
  }
  if (call.args.size() > stmt.parameters.size()) {
    return FailedPrecondition("macro '{}' takes {} arguments, {} given",
                              stmt.text, stmt.parameters.size(),
                              call.args.size());
  }
  // Every name is looked for among the arguments' names.
  RETURN_IF_ERROR(budget_.Step(
      static_cast<int64_t>(stmt.parameters.size() * call.kwargs.size() / 16)));
  size_t used = 0;
  for (size_t i = 0; i < stmt.parameters.size(); ++i) {
    const Parameter& parameter = stmt.parameters[i];
    const auto named = std::find_if(
        call.kwargs.begin(), call.kwargs.end(),
        [&](const auto& kwarg) { return kwarg.first == parameter.name; });
    Value value = Value::MakeUndefined(parameter.name);
    if (named != call.kwargs.end()) {
      if (i < call.args.size()) {
        return FailedPrecondition("macro '{}' got argument '{}' twice",
                                  stmt.text, parameter.name);
      }
      ++used;
      value = named->second;
    } else if (i < call.args.size()) {
      value = call.args[i];
    } else if (parameter.default_value) {
      ASSIGN_OR_RETURN(value, Eval(*parameter.default_value, scope));
    }
    scope->variables[parameter.name] = std::move(value);
  }
  for (const auto& [name, value] : call.kwargs) {
    if (name != "caller" || scope->variables.contains(name)) continue;
    scope->variables[name] = value;
    ++used;
  }
  if (used < call.kwargs.size()) {
    return FailedPrecondition("macro '{}' got an unexpected argument",
                              stmt.text);
  }
  Text out;
  ++macro_depth_;
  const absl::StatusOr<Flow> flow = RunBody(stmt.body, scope, &out);
  --macro_depth_;
  RETURN_IF_ERROR(flow);
  return Value::String(std::move(out));
}

}  // namespace conclave::engine
