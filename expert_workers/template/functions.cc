// The global functions of a chat template.
#include <absl/time/time.h>

#include <ctime>

#include "expert_workers/template/arguments.h"
#include "expert_workers/template/interpreter.h"
#include "expert_workers/template/value_format.h"

namespace conclave::engine {
namespace {

// Jinja's sandbox refuses longer ranges too.
constexpr int64_t kMaxRange = 100'000;
constexpr size_t kMaxTimeFormat = 256;

absl::StatusOr<Value> Range(Interpreter* interpreter, const Call& call) {
  ASSIGN_OR_RETURN(
      const Arguments args,
      Arguments::Bind("range", call, {"start", "stop", "step"}, 1));
  ASSIGN_OR_RETURN(const int64_t first, args.Int(0, 0));
  ASSIGN_OR_RETURN(const int64_t second, args.Int(1, 0));
  ASSIGN_OR_RETURN(const int64_t step, args.Int(2, 1));
  const int64_t start = args[1] ? first : 0;
  const int64_t stop = args[1] ? second : first;
  if (step == 0) return FailedPrecondition("range step must not be zero");
  Values items;
  for (int64_t i = start; step > 0 ? i < stop : i > stop;) {
    if (static_cast<int64_t>(items.size()) >= kMaxRange) {
      return FailedPrecondition("a range holds at most {} items", kMaxRange);
    }
    items.push_back(Value::Int(i));
    if (__builtin_add_overflow(i, step, &i)) break;
  }
  return interpreter->NewList(std::move(items));
}

// dict(mapping or pairs, name=value, ...)
absl::StatusOr<Dict> MakeDict(Interpreter* interpreter, const Call& call) {
  Dict dict;
  if (call.args.size() > 1) {
    return FailedPrecondition("dict takes one positional argument");
  }
  for (const Value& arg : call.args) {
    if (arg.IsDict()) {
      dict = arg.dict();
      continue;
    }
    ASSIGN_OR_RETURN(const Values pairs, interpreter->Iterate(arg));
    for (const Value& pair : pairs) {
      ASSIGN_OR_RETURN(const Values both, interpreter->Iterate(pair));
      if (both.size() != 2) return FailedPrecondition("dict needs pairs");
      RETURN_IF_ERROR(both[0].CheckKey(interpreter->budget()));
      dict.Set(both[0], both[1]);
    }
  }
  for (const auto& [name, value] : call.kwargs) {
    dict.Set(Value::Trusted(name), value);
  }
  RETURN_IF_ERROR(
      interpreter->budget()->Bytes(dict.entries().size() * 2 * sizeof(Value)));
  return dict;
}

absl::StatusOr<Value> DictFunction(Interpreter* interpreter, const Call& call) {
  ASSIGN_OR_RETURN(Dict dict, MakeDict(interpreter, call));
  return CheckDepth(Value::MakeDict(std::move(dict)));
}

absl::StatusOr<Value> NamespaceFunction(Interpreter* interpreter,
                                        const Call& call) {
  ASSIGN_OR_RETURN(Dict dict, MakeDict(interpreter, call));
  for (const auto& [key, value] : dict.entries()) {
    if (key.IsString() && key.text().view().starts_with('_')) {
      return FailedPrecondition("namespace attributes may not start with '_'");
    }
  }
  RETURN_IF_ERROR(interpreter->budget()->Bytes(sizeof(Namespace)));
  auto ns = interpreter->NewNamespace();
  ns->attributes = std::move(dict);
  return Value::MakeNamespace(std::move(ns));
}

absl::StatusOr<Value> RaiseException(Interpreter* interpreter,
                                     const Call& call) {
  ASSIGN_OR_RETURN(const Arguments args,
                   Arguments::Bind("raise_exception", call, {"message"}, 1));
  ASSIGN_OR_RETURN(const Text text, ToText(*args[0], interpreter->budget()));
  return InvalidArgument("{}", text.bytes());
}

absl::StatusOr<Value> StrftimeNow(Interpreter* interpreter, const Call& call) {
  ASSIGN_OR_RETURN(const Arguments args,
                   Arguments::Bind("strftime_now", call, {"format"}, 1));
  ASSIGN_OR_RETURN(const Text format, args.String(0, ""));
  if (format.size() > kMaxTimeFormat ||
      format.bytes().find('\0') != std::string::npos) {
    return FailedPrecondition("strftime_now: format is too long");
  }
  const auto& clock = interpreter->clock();
  const std::tm now = absl::ToTM(clock.now, clock.zone);
  // The widest conversion gives some 30 bytes for two.
  char buffer[16 * kMaxTimeFormat];
  // strftime is told the format at run time: that is its purpose here.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
  const size_t size =
      std::strftime(buffer, sizeof(buffer), format.bytes().c_str(), &now);
#pragma GCC diagnostic pop
  return Value::String(Text(std::string(buffer, size), format.trusted()));
}

}  // namespace

void AddGlobals(Interpreter* interpreter) {
  using Function = absl::StatusOr<Value> (*)(Interpreter*, const Call&);
  constexpr std::pair<std::string_view, Function> kFunctions[] = {
      {"range", Range},
      {"dict", DictFunction},
      {"namespace", NamespaceFunction},
      {"raise_exception", RaiseException},
      {"strftime_now", StrftimeNow},
  };
  for (const auto& [name, function] : kFunctions) {
    interpreter->SetVariable(
        std::string(name),
        Value::MakeCallable({std::string(name),
                             [interpreter, run = function](const Call& call) {
                               return run(interpreter, call);
                             }}));
  }
}

}  // namespace conclave::engine
