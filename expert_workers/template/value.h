// What a template computes with: Python's values, as far as chat templates
// use them. Values are immutable and shared, except namespaces.
#ifndef CONCLAVE_EXPERT_WORKERS_TEMPLATE_VALUE_H_
#define CONCLAVE_EXPERT_WORKERS_TEMPLATE_VALUE_H_

#include <absl/container/flat_hash_map.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/status.h"
#include "expert_workers/template/text.h"

namespace conclave::engine {

// What one rendering may use up. Every loop of the interpreter pays.
//   RESOURCE_EXHAUSTED  once a limit is passed
struct Budget {
  int64_t steps = 1'000'000;
  // Of strings and lists built on the way, not only of output: a doubling
  // string passes 8 MB after 23 steps.
  int64_t bytes = int64_t{128} << 20;

  absl::Status Step(int64_t count = 1);
  absl::Status Bytes(size_t count);
  // For text that is read, not built: half a gigabyte in all, a second's work
  // where a scan decodes UTF-8.
  absl::Status Scan(size_t count) { return Bytes(count / 4); }
  // For a needle sought in text: at every place up to 256 bytes of it may be
  // compared, 64 a step (longer needles are sought in linear time).
  absl::Status Search(size_t text, size_t needle) {
    constexpr size_t kCompared = 256, kStep = 64;
    RETURN_IF_ERROR(Scan(needle));
    return Scan(text * (1 + std::min(needle, kCompared) / kStep));
  }
};

class Value;
using Values = std::vector<Value>;

struct Undefined {
  std::shared_ptr<const std::string> name;  // for the message; may be null
};
struct None {};
struct List {
  Values items;
  bool tuple = false;
  // What Jinja gives as a generator (map, select, ...): true even when empty,
  // without length or subscripts. It may be walked twice here.
  bool lazy = false;
  int depth = 1;  // 1 + the deepest item's
};

// Keeps insertion order, as Python does.
class Dict {
 public:
  const Value* Find(const Value& key) const;
  const Value* Find(std::string_view key) const;
  // Replaces an equal key's value.
  void Set(Value key, Value value);
  const std::vector<std::pair<Value, Value>>& entries() const {
    return entries_;
  }
  int depth() const { return depth_; }

 private:
  // Where `key` is in entries_, or their number.
  size_t Position(std::string_view key) const;
  size_t Position(const Value& key) const;

  std::vector<std::pair<Value, Value>> entries_;
  // By HashKey. Empty while a search is faster: few entries, no tuples.
  absl::flat_hash_map<std::string, size_t> index_;
  int depth_ = 1;
};

struct Namespace {
  Dict attributes;
};
struct Call {
  Values args;
  std::vector<std::pair<std::string, Value>> kwargs;
};
// A macro, a bound method or a global function.
struct Callable {
  std::string name;
  std::function<absl::StatusOr<Value>(const Call&)> function;
  int depth = 0;  // of what the function holds on to
};
struct LoopState;  // interpreter.h: the `loop` of a for

class Value {
 public:
  // Deeper values are refused where they are built: printing, comparing and
  // destroying them recurses.
  static constexpr int kMaxDepth = 128;

  Value() : data_(Undefined{}) {}
  static Value MakeUndefined(std::string_view name);
  static Value MakeNone() { return Value(None{}); }
  static Value Bool(bool value) { return Value(value); }
  static Value Int(int64_t value) { return Value(value); }
  static Value Float(double value) { return Value(value); }
  static Value String(Text text) {
    return Value(std::make_shared<const Text>(std::move(text)));
  }
  // Text the template's side wrote.
  static Value Trusted(std::string_view text) {
    return String(Text(std::string(text), true));
  }
  static Value MakeList(Values items, bool tuple = false);
  static Value MakeLazy(Values items);
  static Value MakeDict(Dict dict) {
    return Value(std::make_shared<const Dict>(std::move(dict)));
  }
  static Value MakeNamespace(std::shared_ptr<Namespace> ns) {
    return Value(std::move(ns));
  }
  static Value MakeCallable(Callable callable) {
    return Value(std::make_shared<const Callable>(std::move(callable)));
  }
  static Value MakeLoop(std::shared_ptr<LoopState> loop) {
    return Value(std::move(loop));
  }
  // Everything in `json` is untrusted.
  //   INVALID_ARGUMENT  nested deeper than kMaxDepth - 64
  static absl::StatusOr<Value> FromJson(const nlohmann::ordered_json& json,
                                        int depth = 0);

  template <typename T>
  bool Is() const {
    return std::holds_alternative<T>(data_);
  }
  bool IsUndefined() const { return Is<Undefined>(); }
  bool IsNone() const { return Is<None>(); }
  bool IsBool() const { return Is<bool>(); }
  bool IsInt() const { return Is<int64_t>(); }
  bool IsFloat() const { return Is<double>(); }
  bool IsNumber() const { return IsBool() || IsInt() || IsFloat(); }
  bool IsString() const { return Is<std::shared_ptr<const Text>>(); }
  bool IsList() const { return Is<std::shared_ptr<const List>>(); }
  bool IsDict() const { return Is<std::shared_ptr<const Dict>>(); }
  bool IsNamespace() const { return Is<std::shared_ptr<Namespace>>(); }
  bool IsCallable() const { return Is<std::shared_ptr<const Callable>>(); }
  bool IsLoop() const { return Is<std::shared_ptr<LoopState>>(); }

  // Each CHECKs the kind by std::get's own rules.
  const Undefined& undefined() const { return std::get<Undefined>(data_); }
  bool boolean() const { return std::get<bool>(data_); }
  const Text& text() const {
    return *std::get<std::shared_ptr<const Text>>(data_);
  }
  const List& list() const {
    return *std::get<std::shared_ptr<const List>>(data_);
  }
  const Dict& dict() const {
    return *std::get<std::shared_ptr<const Dict>>(data_);
  }
  const std::shared_ptr<Namespace>& name_space() const {
    return std::get<std::shared_ptr<Namespace>>(data_);
  }
  const Callable& callable() const {
    return *std::get<std::shared_ptr<const Callable>>(data_);
  }
  const std::shared_ptr<LoopState>& loop() const {
    return std::get<std::shared_ptr<LoopState>>(data_);
  }
  // A bool or an int as an int; any number as a double.
  int64_t AsInt() const;
  double AsDouble() const;

  bool Truth() const;
  // Scalars from the conversation are untrusted too: their digits could
  // complete a control string.
  bool trusted() const { return trusted_; }
  Value Untrusted() const {
    Value copy = *this;
    copy.trusted_ = false;
    return copy;
  }
  int depth() const;
  // "str", "int", ... as in Python's messages.
  std::string_view TypeName() const;
  // Equal keys have equal texts; none for what Python cannot hash.
  absl::StatusOr<std::string> HashKey() const;
  // HashKey's error, if it has one, once `budget` has paid for its work: a
  // key is copied, and a tuple's parts once more at every level.
  absl::Status CheckKey(Budget* budget) const;

 private:
  using Data =
      std::variant<Undefined, None, bool, int64_t, double,
                   std::shared_ptr<const Text>, std::shared_ptr<const List>,
                   std::shared_ptr<const Dict>, std::shared_ptr<Namespace>,
                   std::shared_ptr<const Callable>, std::shared_ptr<LoopState>>;
  explicit Value(Data data) : data_(std::move(data)) {}

  Data data_;
  bool trusted_ = true;
};

// Python's ==. Pays a step for every pair of values looked at.
absl::StatusOr<bool> Equal(const Value& a, const Value& b, Budget* budget);
// Python's ordering: <0, 0, >0; an error for what has none.
absl::StatusOr<int> Order(const Value& a, const Value& b, Budget* budget);

// Limits on what is built: checked by whoever makes a list or a dict.
absl::StatusOr<Value> CheckDepth(Value value);

}  // namespace conclave::engine

#endif  // CONCLAVE_EXPERT_WORKERS_TEMPLATE_VALUE_H_
