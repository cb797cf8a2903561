#include "expert_workers/template/value.h"

#include <algorithm>
#include <cmath>

namespace conclave::engine {
namespace {

// A dict this small is searched; a larger one keeps an index.
constexpr size_t kIndexFrom = 8;
constexpr int kMaxJsonDepth = Value::kMaxDepth - 64;

}  // namespace

absl::Status Budget::Step(int64_t count) {
  steps -= count;
  if (steps >= 0) return absl::OkStatus();
  return ResourceExhausted("template takes too many steps");
}

absl::Status Budget::Bytes(size_t count) {
  bytes -= static_cast<int64_t>(std::min<size_t>(count, size_t{1} << 40));
  if (bytes >= 0) return absl::OkStatus();
  return ResourceExhausted("template builds too much text");
}

size_t Dict::Position(const Value& key) const {
  if (key.IsString()) return Position(key.text().view());
  const auto hash = key.HashKey();
  if (!hash.ok()) return entries_.size();
  if (!index_.empty()) {
    const auto found = index_.find(*hash);
    return found == index_.end() ? entries_.size() : found->second;
  }
  // Strings differ from every other key; tuples would be in the index.
  size_t i = 0;
  for (; i < entries_.size(); ++i) {
    const Value& known = entries_[i].first;
    if (!known.IsString() && *known.HashKey() == *hash) break;
  }
  return i;
}

size_t Dict::Position(std::string_view key) const {
  if (!index_.empty()) {
    const auto found = index_.find("s" + std::string(key));
    return found == index_.end() ? entries_.size() : found->second;
  }
  size_t i = 0;
  for (; i < entries_.size(); ++i) {
    const Value& known = entries_[i].first;
    if (known.IsString() && known.text().view() == key) break;
  }
  return i;
}

const Value* Dict::Find(const Value& key) const {
  const size_t i = Position(key);
  return i < entries_.size() ? &entries_[i].second : nullptr;
}

const Value* Dict::Find(std::string_view key) const {
  const size_t i = Position(key);
  return i < entries_.size() ? &entries_[i].second : nullptr;
}

void Dict::Set(Value key, Value value) {
  depth_ = std::max(depth_, 1 + value.depth());
  if (const size_t i = Position(key); i < entries_.size()) {
    entries_[i].second = std::move(value);
    return;
  }
  const bool tuple = key.IsList();
  entries_.emplace_back(std::move(key), std::move(value));
  if (index_.empty() && !tuple && entries_.size() < kIndexFrom) return;
  const size_t first = index_.empty() ? 0 : entries_.size() - 1;
  for (size_t i = first; i < entries_.size(); ++i) {
    const auto hash = entries_[i].first.HashKey();
    if (hash.ok()) index_[*hash] = i;
  }
}

Value Value::MakeUndefined(std::string_view name) {
  return Value(Undefined{std::make_shared<const std::string>(name)});
}

namespace {

std::shared_ptr<List> NewList(Values items) {
  auto list = std::make_shared<List>();
  for (const Value& item : items) {
    list->depth = std::max(list->depth, 1 + item.depth());
  }
  list->items = std::move(items);
  return list;
}

}  // namespace

Value Value::MakeList(Values items, bool tuple) {
  auto list = NewList(std::move(items));
  list->tuple = tuple;
  return Value(std::shared_ptr<const List>(std::move(list)));
}

Value Value::MakeLazy(Values items) {
  auto list = NewList(std::move(items));
  list->lazy = true;
  return Value(std::shared_ptr<const List>(std::move(list)));
}

absl::StatusOr<Value> Value::FromJson(const nlohmann::ordered_json& json,
                                      int depth) {
  if (depth > kMaxJsonDepth) {
    return InvalidArgument("conversation nested deeper than {}", kMaxJsonDepth);
  }
  switch (json.type()) {
    case nlohmann::ordered_json::value_t::null:
      return MakeNone();
    case nlohmann::ordered_json::value_t::boolean:
      return Bool(json.get<bool>()).Untrusted();
    case nlohmann::ordered_json::value_t::number_unsigned:
      if (json.get<uint64_t>() > uint64_t{INT64_MAX}) {
        return Float(json.get<double>()).Untrusted();
      }
      [[fallthrough]];
    case nlohmann::ordered_json::value_t::number_integer:
      return Int(json.get<int64_t>()).Untrusted();
    case nlohmann::ordered_json::value_t::number_float:
      return Float(json.get<double>()).Untrusted();
    case nlohmann::ordered_json::value_t::string:
      return String(Text(json.get<std::string>(), false));
    case nlohmann::ordered_json::value_t::array: {
      Values items;
      for (const auto& item : json) {
        ASSIGN_OR_RETURN(Value value, FromJson(item, depth + 1));
        items.push_back(std::move(value));
      }
      return MakeList(std::move(items));
    }
    case nlohmann::ordered_json::value_t::object: {
      Dict dict;
      for (const auto& [key, item] : json.items()) {
        ASSIGN_OR_RETURN(Value value, FromJson(item, depth + 1));
        dict.Set(String(Text(key, false)), std::move(value));
      }
      return MakeDict(std::move(dict));
    }
    default:
      return InvalidArgument("conversation holds a JSON {}", json.type_name());
  }
}

int64_t Value::AsInt() const {
  if (const bool* value = std::get_if<bool>(&data_)) return *value ? 1 : 0;
  return std::get<int64_t>(data_);
}

double Value::AsDouble() const {
  if (const double* value = std::get_if<double>(&data_)) return *value;
  return static_cast<double>(AsInt());
}

bool Value::Truth() const {
  if (IsUndefined() || IsNone()) return false;
  if (IsBool() || IsInt()) return AsInt() != 0;
  if (IsFloat()) return AsDouble() != 0;
  if (IsString()) return !text().empty();
  if (IsList()) return list().lazy || !list().items.empty();
  if (IsDict()) return !dict().entries().empty();
  return true;
}

int Value::depth() const {
  if (IsList()) return list().depth;
  if (IsDict()) return dict().depth();
  if (IsCallable()) return callable().depth;
  return 0;
}

std::string_view Value::TypeName() const {
  if (IsUndefined()) return "Undefined";
  if (IsNone()) return "NoneType";
  if (IsBool()) return "bool";
  if (IsInt()) return "int";
  if (IsFloat()) return "float";
  if (IsString()) return "str";
  if (IsList() && list().lazy) return "generator";
  if (IsList()) return list().tuple ? "tuple" : "list";
  if (IsDict()) return "dict";
  if (IsNamespace()) return "Namespace";
  if (IsLoop()) return "LoopContext";
  return "function";
}

absl::StatusOr<std::string> Value::HashKey() const {
  if (IsString()) return "s" + text().bytes();
  if (IsNone()) return std::string("n");
  if (IsNumber()) {  // 1, 1.0 and True are one key.
    const double number = AsDouble();
    if (!IsFloat()) return fmt::format("i{}", AsInt());
    if (number == std::floor(number) && std::abs(number) < 9e15) {
      return fmt::format("i{}", static_cast<int64_t>(number));
    }
    return fmt::format("f{}", number);
  }
  if (IsList() && list().tuple) {
    std::string key = "t";
    for (const Value& item : list().items) {
      ASSIGN_OR_RETURN(const std::string part, item.HashKey());
      key += fmt::format("{}:{}", part.size(), part);
      if (key.size() > 4096) break;
    }
    return key;
  }
  return FailedPrecondition("unhashable type: '{}'", TypeName());
}

namespace {

// Bytes that the key's text holds, all of them paid for.
absl::StatusOr<size_t> PayForKey(const Value& key, Budget* budget) {
  RETURN_IF_ERROR(budget->Step());
  size_t size = key.IsString() ? key.text().size() : 0;
  if (key.IsList() && key.list().tuple) {
    for (const Value& item : key.list().items) {
      ASSIGN_OR_RETURN(const size_t part, PayForKey(item, budget));
      size += part;
    }
  }
  RETURN_IF_ERROR(budget->Scan(size));
  return size;
}

}  // namespace

absl::Status Value::CheckKey(Budget* budget) const {
  RETURN_IF_ERROR(PayForKey(*this, budget));
  return HashKey().status();
}

namespace {

absl::StatusOr<bool> EqualDicts(const Dict& a, const Dict& b, Budget* budget) {
  if (a.entries().size() != b.entries().size()) return false;
  for (const auto& [key, value] : a.entries()) {
    RETURN_IF_ERROR(key.CheckKey(budget));
    const Value* other = b.Find(key);
    if (other == nullptr) return false;
    ASSIGN_OR_RETURN(const bool equal, Equal(value, *other, budget));
    if (!equal) return false;
  }
  return true;
}

template <typename T>
int ThreeWay(const T& a, const T& b) {
  return a < b ? -1 : (b < a ? 1 : 0);
}

}  // namespace

absl::StatusOr<bool> Equal(const Value& a, const Value& b, Budget* budget) {
  RETURN_IF_ERROR(budget->Step());
  if (a.IsNumber() && b.IsNumber()) {
    if (!a.IsFloat() && !b.IsFloat()) return a.AsInt() == b.AsInt();
    return a.AsDouble() == b.AsDouble();
  }
  if (a.IsString() && b.IsString()) {
    if (a.text().size() != b.text().size()) return false;
    RETURN_IF_ERROR(budget->Scan(a.text().size()));
    return a.text().view() == b.text().view();
  }
  if (a.IsList() && b.IsList()) {
    const List& left = a.list();
    const List& right = b.list();
    if (left.tuple != right.tuple) return false;
    if (left.items.size() != right.items.size()) return false;
    for (size_t i = 0; i < left.items.size(); ++i) {
      ASSIGN_OR_RETURN(const bool equal,
                       Equal(left.items[i], right.items[i], budget));
      if (!equal) return false;
    }
    return true;
  }
  if (a.IsDict() && b.IsDict()) return EqualDicts(a.dict(), b.dict(), budget);
  if (a.IsNamespace() && b.IsNamespace()) {
    return a.name_space() == b.name_space();
  }
  if (a.IsCallable() && b.IsCallable()) return &a.callable() == &b.callable();
  if (a.IsLoop() && b.IsLoop()) return a.loop() == b.loop();
  return (a.IsNone() && b.IsNone()) || (a.IsUndefined() && b.IsUndefined());
}

absl::StatusOr<int> Order(const Value& a, const Value& b, Budget* budget) {
  RETURN_IF_ERROR(budget->Step());
  if (a.IsNumber() && b.IsNumber()) {
    if (!a.IsFloat() && !b.IsFloat()) return ThreeWay(a.AsInt(), b.AsInt());
    return ThreeWay(a.AsDouble(), b.AsDouble());
  }
  // UTF-8 sorts as its code points do.
  if (a.IsString() && b.IsString()) {
    RETURN_IF_ERROR(budget->Scan(std::min(a.text().size(), b.text().size())));
    return ThreeWay(a.text().view(), b.text().view());
  }
  if (a.IsList() && b.IsList() && a.list().tuple == b.list().tuple) {
    const Values& left = a.list().items;
    const Values& right = b.list().items;
    for (size_t i = 0; i < std::min(left.size(), right.size()); ++i) {
      ASSIGN_OR_RETURN(const bool equal, Equal(left[i], right[i], budget));
      if (!equal) return Order(left[i], right[i], budget);
    }
    return ThreeWay(left.size(), right.size());
  }
  if (a.IsUndefined() || b.IsUndefined()) {
    return FailedPrecondition("an undefined value has no order");
  }
  return FailedPrecondition("'{}' and '{}' have no order", a.TypeName(),
                            b.TypeName());
}

absl::StatusOr<Value> CheckDepth(Value value) {
  if (value.depth() > Value::kMaxDepth) {
    return ResourceExhausted("template nests values deeper than {}",
                             Value::kMaxDepth);
  }
  return value;
}

}  // namespace conclave::engine
