// Python's arithmetic on template values. Integers have 64 bits; what Python
// would grow is an error here.
#include <cmath>

#include "expert_workers/template/format.h"
#include "expert_workers/template/interpreter.h"

namespace conclave::engine {
namespace {

constexpr char kOverflow[] = "integer beyond 64 bits";

absl::Status Unsupported(std::string_view op, const Value& a, const Value& b) {
  return FailedPrecondition("unsupported operand types for {}: '{}' and '{}'",
                            op, a.TypeName(), b.TypeName());
}

Value WithTrust(Value value, const Value& a, const Value& b) {
  return a.trusted() && b.trusted() ? value : value.Untrusted();
}

int64_t FloorDivide(int64_t a, int64_t b) {
  const int64_t quotient = a / b;
  return a % b != 0 && (a < 0) != (b < 0) ? quotient - 1 : quotient;
}

absl::StatusOr<Value> IntPower(int64_t base, int64_t exponent) {
  int64_t result = 1;
  // 1, 0 and -1 never overflow; anything else does within 63 rounds.
  if (base == 1 || exponent == 0) return Value::Int(1);
  if (base == 0) return Value::Int(0);
  if (base == -1) return Value::Int(exponent % 2 == 0 ? 1 : -1);
  for (int64_t i = 0; i < exponent; ++i) {
    if (__builtin_mul_overflow(result, base, &result)) {
      return FailedPrecondition(kOverflow);
    }
  }
  return Value::Int(result);
}

absl::StatusOr<Value> IntOperator(std::string_view op, int64_t a, int64_t b) {
  int64_t result = 0;
  bool overflow = false;
  if (op == "+") {
    overflow = __builtin_add_overflow(a, b, &result);
  } else if (op == "-") {
    overflow = __builtin_sub_overflow(a, b, &result);
  } else if (op == "*") {
    overflow = __builtin_mul_overflow(a, b, &result);
  } else if (op == "**" && b >= 0) {
    return IntPower(a, b);
  } else if (op == "**") {
    return Value::Float(
        std::pow(static_cast<double>(a), static_cast<double>(b)));
  } else if (b == 0) {
    return FailedPrecondition("division by zero");
  } else if (op == "/") {
    return Value::Float(static_cast<double>(a) / static_cast<double>(b));
  } else if (b == -1) {  // INT64_MIN / -1 overflows, % -1 traps.
    if (op == "%") return Value::Int(0);
    overflow = __builtin_sub_overflow(int64_t{0}, a, &result);
  } else if (op == "//") {
    result = FloorDivide(a, b);
  } else {
    result = a - FloorDivide(a, b) * b;
  }
  if (overflow) return FailedPrecondition(kOverflow);
  return Value::Int(result);
}

absl::StatusOr<Value> FloatOperator(std::string_view op, double a, double b) {
  if (op == "+") return Value::Float(a + b);
  if (op == "-") return Value::Float(a - b);
  if (op == "*") return Value::Float(a * b);
  if (op == "**") return Value::Float(std::pow(a, b));
  if (b == 0) return FailedPrecondition("division by zero");
  if (op == "/") return Value::Float(a / b);
  if (op == "//") return Value::Float(std::floor(a / b));
  const double rest = std::fmod(a, b);
  return Value::Float(rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest);
}

absl::StatusOr<Value> Repeat(Interpreter* interpreter, const Value& sequence,
                             int64_t count) {
  Text text;
  Values items;
  const size_t once = sequence.IsString() ? sequence.text().size()
                                          : sequence.list().items.size();
  for (int64_t i = 0; i < count && once > 0; ++i) {
    RETURN_IF_ERROR(interpreter->budget()->Step());
    if (sequence.IsString()) {
      text.Append(sequence.text());
      if (text.size() > Interpreter::kMaxOutputBytes) break;
    } else {
      RETURN_IF_ERROR(interpreter->budget()->Bytes(once * sizeof(Value)));
      const Values& more = sequence.list().items;
      items.insert(items.end(), more.begin(), more.end());
    }
  }
  if (sequence.IsString()) return interpreter->NewString(std::move(text));
  return interpreter->NewList(std::move(items), sequence.list().tuple);
}

bool IsPlainList(const Value& value) {
  return value.IsList() && !value.list().lazy;
}

}  // namespace

absl::StatusOr<Value> Interpreter::Concat(const Text& a, const Text& b) {
  Text text = a;
  text.Append(b);
  return NewString(std::move(text));
}

absl::StatusOr<Value> BinaryOperator(Interpreter* interpreter,
                                     std::string_view op, const Value& a,
                                     const Value& b) {
  if (a.IsNumber() && b.IsNumber()) {
    if (a.IsFloat() || b.IsFloat()) {
      ASSIGN_OR_RETURN(Value value,
                       FloatOperator(op, a.AsDouble(), b.AsDouble()));
      return WithTrust(std::move(value), a, b);
    }
    ASSIGN_OR_RETURN(Value value, IntOperator(op, a.AsInt(), b.AsInt()));
    return WithTrust(std::move(value), a, b);
  }
  if (op == "+" && a.IsString() && b.IsString()) {
    return interpreter->Concat(a.text(), b.text());
  }
  if (op == "+" && IsPlainList(a) && IsPlainList(b) &&
      a.list().tuple == b.list().tuple) {
    Values items = a.list().items;
    items.insert(items.end(), b.list().items.begin(), b.list().items.end());
    return interpreter->NewList(std::move(items), a.list().tuple);
  }
  const auto repeats = [](const Value& sequence, const Value& count) {
    return (sequence.IsString() || IsPlainList(sequence)) &&
           (count.IsInt() || count.IsBool());
  };
  if (op == "*" && repeats(a, b)) return Repeat(interpreter, a, b.AsInt());
  if (op == "*" && repeats(b, a)) return Repeat(interpreter, b, a.AsInt());
  if (op == "%" && a.IsString()) {
    const bool tuple = b.IsList() && b.list().tuple;
    return FormatPercent(interpreter, a.text(),
                         tuple ? b.list().items : Values{b});
  }
  return Unsupported(op, a, b);
}

}  // namespace conclave::engine
