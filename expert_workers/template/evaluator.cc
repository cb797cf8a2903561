// The expression half of the interpreter.
#include <algorithm>
#include <optional>

#include "expert_workers/template/interpreter.h"
#include "expert_workers/template/value_format.h"
#include "expert_workers/tokenizer/unicode.h"

namespace conclave::engine {
namespace {

absl::Status UndefinedError(const Value& value) {
  const auto& name = value.undefined().name;
  return FailedPrecondition("'{}' is undefined", name ? *name : "value");
}

Value LoopAttribute(const std::shared_ptr<LoopState>& loop,
                    std::string_view name) {
  const auto count = static_cast<int64_t>(loop->items.size());
  const auto index = static_cast<int64_t>(loop->index);
  if (name == "index") return Value::Int(index + 1);
  if (name == "index0") return Value::Int(index);
  if (name == "revindex") return Value::Int(count - index);
  if (name == "revindex0") return Value::Int(count - index - 1);
  if (name == "first") return Value::Bool(index == 0);
  if (name == "last") return Value::Bool(index + 1 >= count);
  if (name == "length") return Value::Int(count);
  if (name == "depth") return Value::Int(1);
  if (name == "depth0") return Value::Int(0);
  if (name == "previtem" && index > 0) return loop->items[loop->index - 1];
  if (name == "nextitem" && index + 1 < count) {
    return loop->items[loop->index + 1];
  }
  if (name == "cycle") {
    return Value::MakeCallable(
        {"cycle", [loop](const Call& call) -> absl::StatusOr<Value> {
           if (call.args.empty()) {
             return FailedPrecondition("no items for cycling given");
           }
           return call.args[loop->index % call.args.size()];
         }});
  }
  return Value::MakeUndefined(name);
}

// loop.changed(...) remembers in the loop what it was called with: as text,
// because values could hold the loop itself.
Value LoopChanged(const std::shared_ptr<LoopState>& loop, Budget* budget) {
  return Value::MakeCallable(
      {"changed", [loop, budget](const Call& call) -> absl::StatusOr<Value> {
         std::string seen;
         for (const Value& arg : call.args) {
           ASSIGN_OR_RETURN(const Text text, ToRepr(arg, budget));
           seen += text.bytes() + "\n";
         }
         const bool same = loop->last_changed == seen;
         loop->last_changed = std::move(seen);
         return Value::Bool(!same);
       }});
}

// A position of a sequence of `size`, or none.
std::optional<size_t> IndexOf(const Value& key, size_t size) {
  if (!key.IsInt() && !key.IsBool()) return std::nullopt;
  int64_t index = key.AsInt();
  const auto count = static_cast<int64_t>(size);
  if (index < 0) index += count;
  if (index < 0 || index >= count) return std::nullopt;
  return static_cast<size_t>(index);
}

}  // namespace

Value Interpreter::LookUp(std::string_view name, const Scope* scope) const {
  for (; scope != nullptr; scope = scope->parent.get()) {
    const auto found =
        scope->variables.find(absl::string_view(name.data(), name.size()));
    if (found != scope->variables.end()) return found->second;
  }
  return Value::MakeUndefined(name);
}

absl::StatusOr<Value> Interpreter::Eval(const Expr& expr,
                                        const ScopePtr& scope) {
  RETURN_IF_ERROR(budget_.Step());
  if (eval_depth_ >= kMaxEvalDepth) {
    return ResourceExhausted("template nests deeper than {} evaluations",
                             kMaxEvalDepth);
  }
  ++eval_depth_;
  absl::StatusOr<Value> value = EvalNode(expr, scope);
  --eval_depth_;
  return value;
}

absl::StatusOr<Value> Interpreter::EvalNode(const Expr& expr,
                                            const ScopePtr& scope) {
  switch (expr.kind) {
    case ExprKind::kConstant:
      return expr.constant;
    case ExprKind::kName:
      return LookUp(expr.text, scope.get());
    case ExprKind::kAttribute: {
      ASSIGN_OR_RETURN(const Value object, Eval(*expr.children[0], scope));
      return GetAttribute(object, expr.text);
    }
    case ExprKind::kItem: {
      ASSIGN_OR_RETURN(const Value object, Eval(*expr.children[0], scope));
      ASSIGN_OR_RETURN(const Value key, Eval(*expr.children[1], scope));
      return GetItem(object, key);
    }
    case ExprKind::kSlice:
      return EvalSlice(expr, scope);
    case ExprKind::kCall:
      return EvalCall(expr, scope, nullptr);
    case ExprKind::kFilter:
      return EvalFilter(expr, scope, nullptr);
    case ExprKind::kTest: {
      ASSIGN_OR_RETURN(const Value input, Eval(*expr.children[0], scope));
      ASSIGN_OR_RETURN(const Call call, EvalArguments(expr, scope));
      ASSIGN_OR_RETURN(const bool yes, ApplyTest(expr.text, input, call));
      return Value::Bool(yes);
    }
    case ExprKind::kNot:
    case ExprKind::kNegate:
    case ExprKind::kPlus:
      return EvalUnary(expr, scope);
    case ExprKind::kBinary: {
      ASSIGN_OR_RETURN(const Value a, Eval(*expr.children[0], scope));
      ASSIGN_OR_RETURN(const Value b, Eval(*expr.children[1], scope));
      if (a.IsUndefined()) return UndefinedError(a);
      if (b.IsUndefined()) return UndefinedError(b);
      return BinaryOperator(this, expr.text, a, b);
    }
    case ExprKind::kAnd:
    case ExprKind::kOr:
    case ExprKind::kConditional:
      return EvalLogic(expr, scope);
    case ExprKind::kCompare:
      return EvalCompare(expr, scope);
    case ExprKind::kConcat:
      return EvalConcat(expr, scope);
    case ExprKind::kList:
    case ExprKind::kTuple:
      return EvalList(expr, scope);
    case ExprKind::kDict:
      return EvalDict(expr, scope);
  }
  return Internal("expression kind {}", static_cast<int>(expr.kind));
}

absl::StatusOr<Value> Interpreter::EvalUnary(const Expr& expr,
                                             const ScopePtr& scope) {
  ASSIGN_OR_RETURN(const Value value, Eval(*expr.children[0], scope));
  if (expr.kind == ExprKind::kNot) return Value::Bool(!value.Truth());
  if (value.IsUndefined()) return UndefinedError(value);
  if (!value.IsNumber()) {
    return FailedPrecondition("bad operand of a sign: '{}'", value.TypeName());
  }
  const bool negate = expr.kind == ExprKind::kNegate;
  if (value.IsFloat()) {
    return Value::Float(negate ? -value.AsDouble() : value.AsDouble());
  }
  if (negate && value.AsInt() == INT64_MIN) {
    return FailedPrecondition("integer overflow");
  }
  return Value::Int(negate ? -value.AsInt() : value.AsInt());
}

absl::StatusOr<Value> Interpreter::EvalLogic(const Expr& expr,
                                             const ScopePtr& scope) {
  ASSIGN_OR_RETURN(Value value, Eval(*expr.children[0], scope));
  const bool truth = value.Truth();
  if (expr.kind == ExprKind::kConditional) {
    if (truth) return Eval(*expr.children[1], scope);
    if (expr.children[2]) return Eval(*expr.children[2], scope);
    return Value::MakeUndefined("the inline if without else");
  }
  if (truth == (expr.kind == ExprKind::kOr)) return value;
  return Eval(*expr.children[1], scope);
}

absl::StatusOr<Value> Interpreter::EvalConcat(const Expr& expr,
                                              const ScopePtr& scope) {
  Text text;
  for (const ExprPtr& child : expr.children) {
    ASSIGN_OR_RETURN(const Value value, Eval(*child, scope));
    ASSIGN_OR_RETURN(const Text part, ToText(value, &budget_));
    RETURN_IF_ERROR(Emit(part, &text));
  }
  return Value::String(std::move(text));
}

absl::StatusOr<Value> Interpreter::EvalList(const Expr& expr,
                                            const ScopePtr& scope) {
  Values items;
  for (const ExprPtr& child : expr.children) {
    ASSIGN_OR_RETURN(Value item, Eval(*child, scope));
    items.push_back(std::move(item));
  }
  return NewList(std::move(items), expr.kind == ExprKind::kTuple);
}

absl::StatusOr<Value> Interpreter::EvalDict(const Expr& expr,
                                            const ScopePtr& scope) {
  Dict dict;
  for (size_t i = 0; i + 1 < expr.children.size(); i += 2) {
    ASSIGN_OR_RETURN(Value key, Eval(*expr.children[i], scope));
    ASSIGN_OR_RETURN(Value value, Eval(*expr.children[i + 1], scope));
    RETURN_IF_ERROR(key.CheckKey(&budget_));
    RETURN_IF_ERROR(budget_.Bytes(2 * sizeof(Value)));
    dict.Set(std::move(key), std::move(value));
  }
  return CheckDepth(Value::MakeDict(std::move(dict)));
}

absl::StatusOr<Value> Interpreter::EvalCompare(const Expr& expr,
                                               const ScopePtr& scope) {
  ASSIGN_OR_RETURN(Value left, Eval(*expr.children[0], scope));
  for (size_t i = 0; i < expr.operators.size(); ++i) {
    ASSIGN_OR_RETURN(Value right, Eval(*expr.children[i + 1], scope));
    ASSIGN_OR_RETURN(const bool holds, Compare(expr.operators[i], left, right));
    if (!holds) return Value::Bool(false);
    left = std::move(right);
  }
  return Value::Bool(true);
}

absl::StatusOr<bool> Interpreter::Compare(std::string_view op, const Value& a,
                                          const Value& b) {
  if (op == "in") return Contains(b, a);
  if (op == "not in") {
    ASSIGN_OR_RETURN(const bool contains, Contains(b, a));
    return !contains;
  }
  if (op == "==" || op == "!=") {
    ASSIGN_OR_RETURN(const bool equal, Equal(a, b, &budget_));
    return equal == (op == "==");
  }
  ASSIGN_OR_RETURN(const int order, Order(a, b, &budget_));
  if (op == "<") return order < 0;
  if (op == "<=") return order <= 0;
  if (op == ">") return order > 0;
  return order >= 0;
}

absl::StatusOr<bool> Interpreter::Contains(const Value& container,
                                           const Value& item) {
  if (container.IsString()) {
    if (!item.IsString()) {
      return FailedPrecondition("'in <string>' needs a string, not {}",
                                item.TypeName());
    }
    RETURN_IF_ERROR(
        budget_.Search(container.text().size(), item.text().size()));
    return Find(container.text().view(), item.text().view()) !=
           std::string_view::npos;
  }
  if (container.IsDict()) {
    RETURN_IF_ERROR(item.CheckKey(&budget_));
    return container.dict().Find(item) != nullptr;
  }
  ASSIGN_OR_RETURN(const Values items, Iterate(container));
  for (const Value& known : items) {
    ASSIGN_OR_RETURN(const bool equal, Equal(known, item, &budget_));
    if (equal) return true;
  }
  return false;
}

absl::StatusOr<Value> Interpreter::GetAttribute(const Value& object,
                                                std::string_view name) {
  if (object.IsUndefined()) return UndefinedError(object);
  if (object.IsLoop() && name == "changed") {
    return LoopChanged(object.loop(), &budget_);
  }
  if (object.IsLoop()) return LoopAttribute(object.loop(), name);
  if (HasMethod(object, name)) {
    Callable method{std::string(name), nullptr, object.depth() + 1};
    method.function = [this, object, name = method.name](const Call& call) {
      return CallMethod(this, object, name, call);
    };
    return CheckDepth(Value::MakeCallable(std::move(method)));
  }
  const Value* found = nullptr;
  if (object.IsDict()) found = object.dict().Find(name);
  if (object.IsNamespace()) {
    found = object.name_space()->attributes.Find(name);
  }
  return found ? *found : Value::MakeUndefined(name);
}

absl::StatusOr<Value> Interpreter::GetItem(const Value& object,
                                           const Value& key) {
  if (object.IsUndefined()) return UndefinedError(object);
  if (key.IsString()) RETURN_IF_ERROR(budget_.Scan(key.text().size()));
  if (object.IsDict()) {
    // What is no key is no error here: it finds nothing.
    const absl::Status usable = key.CheckKey(&budget_);
    if (absl::IsResourceExhausted(usable)) return usable;
    if (const Value* found = object.dict().Find(key)) return *found;
  } else if (object.IsList() && !object.list().lazy) {
    const Values& items = object.list().items;
    if (const auto i = IndexOf(key, items.size())) return items[*i];
  } else if (object.IsString() && (key.IsInt() || key.IsBool())) {
    RETURN_IF_ERROR(budget_.Scan(object.text().size()));
    const Text& text = object.text();
    const auto count = static_cast<size_t>(CountCharacters(text.view()));
    if (const auto i = IndexOf(key, count)) {
      const size_t at = CharacterOffset(text.view(), static_cast<int64_t>(*i));
      return Value::String(text.Substr(at, DecodeUtf8(text.view(), at).length));
    }
  }
  if (key.IsString()) return GetAttribute(object, key.text().view());
  return Value::MakeUndefined("element");
}

absl::StatusOr<Value> Interpreter::EvalSlice(const Expr& expr,
                                             const ScopePtr& scope) {
  ASSIGN_OR_RETURN(const Value object, Eval(*expr.children[0], scope));
  std::optional<int64_t> parts[3];
  for (size_t i = 0; i < 3; ++i) {
    if (!expr.children[i + 1]) continue;
    ASSIGN_OR_RETURN(const Value part, Eval(*expr.children[i + 1], scope));
    if (part.IsNone()) continue;
    if (!part.IsInt() && !part.IsBool()) {
      return Value::MakeUndefined("slice");
    }
    parts[i] = part.AsInt();
  }
  if (object.IsUndefined()) return UndefinedError(object);
  const bool is_list = object.IsList() && !object.list().lazy;
  if (!object.IsString() && !is_list) return Value::MakeUndefined("slice");
  const int64_t step = parts[2].value_or(1);
  if (step == 0) return FailedPrecondition("slice step cannot be zero");

  if (!is_list) RETURN_IF_ERROR(budget_.Scan(object.text().size()));
  const int64_t count = is_list
                            ? static_cast<int64_t>(object.list().items.size())
                            : CountCharacters(object.text().view());
  const int64_t low = step > 0 ? 0 : -1;
  const int64_t high = step > 0 ? count : count - 1;
  const auto clamp = [&](std::optional<int64_t> given, int64_t fallback) {
    if (!given) return fallback;
    const int64_t at = *given < 0 ? *given + count : *given;
    return std::clamp(at, low, high);
  };
  const int64_t start = clamp(parts[0], step > 0 ? low : high);
  const int64_t stop = clamp(parts[1], step > 0 ? high : low);
  if (!is_list && step == 1) {  // Every slice of a long content.
    const std::string_view view = object.text().view();
    const size_t from = CharacterOffset(view, start);
    const size_t to = CharacterOffset(view, std::max(start, stop));
    return NewString(object.text().Substr(from, to - from));
  }
  ASSIGN_OR_RETURN(const Values all, Iterate(object));
  Values items;
  // Steps beyond the sequence's length are as good as its length.
  const int64_t stride = std::clamp(step, -count - 1, count + 1);
  for (int64_t i = start; stride > 0 ? i < stop : i > stop; i += stride) {
    items.push_back(all[static_cast<size_t>(i)]);
  }
  if (is_list) return NewList(std::move(items), object.list().tuple);
  Text text;
  for (const Value& item : items) text.Append(item.text());
  return NewString(std::move(text));
}

absl::StatusOr<Call> Interpreter::EvalArguments(const Expr& expr,
                                                const ScopePtr& scope) {
  Call call;
  for (const ExprPtr& arg : expr.args) {
    ASSIGN_OR_RETURN(Value value, Eval(*arg, scope));
    call.args.push_back(std::move(value));
  }
  if (expr.star_args) {
    ASSIGN_OR_RETURN(const Value value, Eval(*expr.star_args, scope));
    ASSIGN_OR_RETURN(const Values items, Iterate(value));
    call.args.insert(call.args.end(), items.begin(), items.end());
  }
  for (const auto& [name, arg] : expr.kwargs) {
    ASSIGN_OR_RETURN(Value value, Eval(*arg, scope));
    call.kwargs.emplace_back(name, std::move(value));
  }
  if (expr.star_kwargs) {
    ASSIGN_OR_RETURN(const Value value, Eval(*expr.star_kwargs, scope));
    if (!value.IsDict()) {
      return FailedPrecondition("** needs a mapping, not {}", value.TypeName());
    }
    for (const auto& [key, item] : value.dict().entries()) {
      if (!key.IsString()) return FailedPrecondition("keywords are strings");
      call.kwargs.emplace_back(key.text().bytes(), item);
    }
  }
  // Macros compare the names one by one.
  RETURN_IF_ERROR(budget_.Step(static_cast<int64_t>(call.kwargs.size())));
  return call;
}

absl::Status Interpreter::PayForTexts(const Call& call) {
  for (const Value& arg : call.args) {
    if (arg.IsString()) RETURN_IF_ERROR(budget_.Scan(arg.text().size()));
  }
  for (const auto& [name, arg] : call.kwargs) {
    if (arg.IsString()) RETURN_IF_ERROR(budget_.Scan(arg.text().size()));
  }
  return absl::OkStatus();
}

absl::StatusOr<Value> Interpreter::EvalCall(const Expr& expr,
                                            const ScopePtr& scope,
                                            const Value* caller) {
  const Expr& callee = *expr.children[0];
  Value function;
  // object.method(...) skips making a bound method.
  if (callee.kind == ExprKind::kAttribute) {
    ASSIGN_OR_RETURN(const Value object, Eval(*callee.children[0], scope));
    if (HasMethod(object, callee.text)) {
      ASSIGN_OR_RETURN(const Call call, EvalArguments(expr, scope));
      return CallMethod(this, object, callee.text, call);
    }
    ASSIGN_OR_RETURN(function, GetAttribute(object, callee.text));
  } else {
    ASSIGN_OR_RETURN(function, Eval(callee, scope));
  }
  ASSIGN_OR_RETURN(Call call, EvalArguments(expr, scope));
  if (caller != nullptr) call.kwargs.emplace_back("caller", *caller);
  if (function.IsUndefined()) return UndefinedError(function);
  if (!function.IsCallable()) {
    return FailedPrecondition("'{}' object is not callable",
                              function.TypeName());
  }
  return function.callable().function(call);
}

absl::StatusOr<Value> Interpreter::EvalFilter(const Expr& expr,
                                              const ScopePtr& scope,
                                              const Value* block) {
  // The innermost filter of a chain over a block has no child.
  Value input = block ? *block : Value();
  if (expr.children[0]) {
    if (expr.children[0]->kind == ExprKind::kFilter) {
      ASSIGN_OR_RETURN(input, EvalFilter(*expr.children[0], scope, block));
    } else {
      ASSIGN_OR_RETURN(input, Eval(*expr.children[0], scope));
    }
  }
  ASSIGN_OR_RETURN(const Call call, EvalArguments(expr, scope));
  return ApplyFilter(expr.text, input, call);
}

absl::StatusOr<Values> Interpreter::Iterate(const Value& value) {
  if (value.IsUndefined()) return Values();
  Values items;
  if (value.IsList()) {
    items = value.list().items;
  } else if (value.IsDict()) {
    for (const auto& [key, item] : value.dict().entries()) {
      items.push_back(key);
    }
  } else if (value.IsString()) {
    RETURN_IF_ERROR(budget_.Bytes(value.text().size() * sizeof(Text)));
    for (Text& character : Characters(value.text())) {
      items.push_back(Value::String(std::move(character)));
    }
  } else {
    return FailedPrecondition("'{}' object is not iterable", value.TypeName());
  }
  RETURN_IF_ERROR(budget_.Bytes(items.size() * sizeof(Value)));
  return items;
}

}  // namespace conclave::engine
