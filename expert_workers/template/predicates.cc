// Jinja's tests: `x is defined` and its kin.
#include <optional>

#include "expert_workers/template/interpreter.h"

namespace conclave::engine {
namespace {

bool IsSequence(const Value& v) {
  return v.IsString() || (v.IsList() && !v.list().lazy) || v.IsDict() ||
         v.IsUndefined();
}

// Tests of the value alone; none for other names.
std::optional<bool> PlainTest(std::string_view name, const Value& v) {
  if (name == "defined") return !v.IsUndefined();
  if (name == "undefined") return v.IsUndefined();
  if (name == "none") return v.IsNone();
  if (name == "boolean") return v.IsBool();
  if (name == "true") return v.IsBool() && v.boolean();
  if (name == "false") return v.IsBool() && !v.boolean();
  if (name == "integer") return v.IsInt();
  if (name == "float") return v.IsFloat();
  if (name == "number") return v.IsNumber();
  if (name == "string") return v.IsString();
  if (name == "mapping") return v.IsDict();
  if (name == "iterable") {
    return IsSequence(v) || v.IsList() || v.IsLoop();
  }
  if (name == "sequence") return IsSequence(v);
  if (name == "callable") return v.IsCallable();
  return std::nullopt;
}

// What the comparing tests are called, symbols and words.
std::string_view OperatorOf(std::string_view name) {
  if (name == "eq" || name == "equalto" || name == "==") return "==";
  if (name == "ne" || name == "!=") return "!=";
  if (name == "lt" || name == "lessthan" || name == "<") return "<";
  if (name == "le" || name == "<=") return "<=";
  if (name == "gt" || name == "greaterthan" || name == ">") return ">";
  if (name == "ge" || name == ">=") return ">=";
  if (name == "in") return "in";
  return "";
}

absl::StatusOr<bool> CaseTest(std::string_view name, const Value& v) {
  if (!v.IsString()) return FailedPrecondition("{} needs a string", name);
  const bool upper = name == "upper";
  const Text same =
      ChangeCase(v.text(), upper ? CaseChange::kUpper : CaseChange::kLower);
  const Text other =
      ChangeCase(v.text(), upper ? CaseChange::kLower : CaseChange::kUpper);
  // Python also wants at least one character that has case.
  return same.view() == v.text().view() && other.view() != same.view();
}

bool SameObject(const Value& a, const Value& b) {
  if (a.IsNone() || b.IsNone()) return a.IsNone() && b.IsNone();
  if (a.IsBool() || b.IsBool()) {
    return a.IsBool() && b.IsBool() && a.boolean() == b.boolean();
  }
  if (a.IsInt() && b.IsInt()) return a.AsInt() == b.AsInt();
  if (a.IsString() && b.IsString()) return &a.text() == &b.text();
  if (a.IsList() && b.IsList()) return &a.list() == &b.list();
  if (a.IsDict() && b.IsDict()) return &a.dict() == &b.dict();
  return false;
}

}  // namespace

absl::StatusOr<bool> Interpreter::ApplyTest(std::string_view name,
                                            const Value& input,
                                            const Call& call) {
  RETURN_IF_ERROR(budget_.Step());
  RETURN_IF_ERROR(PayForTexts(call));
  if (!call.kwargs.empty()) {
    return FailedPrecondition("test {} got an unexpected argument", name);
  }
  const size_t count = call.args.size();
  if (const std::optional<bool> plain = PlainTest(name, input)) {
    if (count == 0) return *plain;
    return FailedPrecondition("test {} takes no arguments", name);
  }
  if (count == 0 && (name == "upper" || name == "lower")) {
    if (input.IsString()) RETURN_IF_ERROR(budget_.Bytes(input.text().size()));
    return CaseTest(name, input);
  }
  if (count == 0 && (name == "odd" || name == "even")) {
    if (!input.IsInt() && !input.IsBool()) {
      return FailedPrecondition("{} needs an integer", name);
    }
    return (input.AsInt() % 2 != 0) == (name == "odd");
  }
  if (count == 1 && name == "divisibleby") {
    const Value& by = call.args[0];
    if (!input.IsInt() || !by.IsInt() || by.AsInt() == 0) {
      return FailedPrecondition("divisibleby needs integers");
    }
    return by.AsInt() == -1 || input.AsInt() % by.AsInt() == 0;
  }
  if (count == 1 && name == "sameas") return SameObject(input, call.args[0]);
  const std::string_view op = OperatorOf(name);
  if (op.empty()) return FailedPrecondition("no test named '{}'", name);
  if (count != 1) return FailedPrecondition("test {} needs one value", name);
  return Compare(op, input, call.args[0]);
}

}  // namespace conclave::engine
