// Filters that walk lists, dicts and the characters of strings.
#include <algorithm>
#include <charconv>

#include "expert_workers/template/arguments.h"
#include "expert_workers/template/filters.h"
#include "expert_workers/template/value_format.h"

namespace conclave::engine {
namespace {

using Result = absl::StatusOr<Value>;

// "function.name" or "0.id": what map(attribute=...) and its kin look up.
Result DottedAttribute(Interpreter* i, const Value& object, const Value& path) {
  if (!path.IsString()) return i->GetItem(object, path);
  Value value = object;
  RETURN_IF_ERROR(i->budget()->Bytes(path.text().size() * 16));
  for (const Text& part : Split(path.text(), ".", -1)) {
    int64_t index = 0;
    const char* const end = part.view().data() + part.size();
    const auto parsed = std::from_chars(part.view().data(), end, index);
    const bool number = parsed.ec == std::errc() && parsed.ptr == end;
    ASSIGN_OR_RETURN(value, i->GetItem(value, number ? Value::Int(index)
                                                     : Value::String(part)));
  }
  return value;
}

Result Length(Interpreter* i, const Value& input, const Call& call) {
  RETURN_IF_ERROR(Arguments::Bind("length", call, {}));
  if (input.IsString()) {
    RETURN_IF_ERROR(i->budget()->Scan(input.text().size()));
    return Value::Int(CountCharacters(input.text().view()));
  }
  if (input.IsUndefined()) return Value::Int(0);
  if (input.IsDict()) {
    return Value::Int(static_cast<int64_t>(input.dict().entries().size()));
  }
  if (input.IsList() && !input.list().lazy) {
    return Value::Int(static_cast<int64_t>(input.list().items.size()));
  }
  return FailedPrecondition("object of type '{}' has no length",
                            input.TypeName());
}

Result ToList(Interpreter* i, const Value& input, const Call& call) {
  RETURN_IF_ERROR(Arguments::Bind("list", call, {}));
  ASSIGN_OR_RETURN(Values items, i->Iterate(input));
  return i->NewList(std::move(items));
}

Result First(Interpreter* i, const Value& input, const Call& call) {
  RETURN_IF_ERROR(Arguments::Bind("first", call, {}));
  ASSIGN_OR_RETURN(const Values items, i->Iterate(input));
  return items.empty() ? Value::MakeUndefined("first item") : items.front();
}

Result Last(Interpreter* i, const Value& input, const Call& call) {
  RETURN_IF_ERROR(Arguments::Bind("last", call, {}));
  ASSIGN_OR_RETURN(const Values items, i->Iterate(input));
  return items.empty() ? Value::MakeUndefined("last item") : items.back();
}

Result Reverse(Interpreter* i, const Value& input, const Call& call) {
  RETURN_IF_ERROR(Arguments::Bind("reverse", call, {}));
  ASSIGN_OR_RETURN(Values items, i->Iterate(input));
  std::reverse(items.begin(), items.end());
  if (!input.IsString()) return i->NewLazy(std::move(items));
  Text text;
  for (const Value& item : items) text.Append(item.text());
  return i->NewString(std::move(text));
}

Result Join(Interpreter* i, const Value& input, const Call& call) {
  ASSIGN_OR_RETURN(const Arguments args,
                   Arguments::Bind("join", call, {"d", "attribute"}));
  Text separator;
  if (args[0]) {
    ASSIGN_OR_RETURN(separator, ToText(*args[0], i->budget()));
  }
  ASSIGN_OR_RETURN(const Values items, i->Iterate(input));
  Text out;
  for (size_t n = 0; n < items.size(); ++n) {
    Value item = items[n];
    if (args.Given(1)) {
      ASSIGN_OR_RETURN(item, DottedAttribute(i, item, *args[1]));
    }
    ASSIGN_OR_RETURN(const Text text, ToText(item, i->budget()));
    RETURN_IF_ERROR(i->budget()->Bytes(text.size() + separator.size()));
    if (n > 0) out.Append(separator);
    out.Append(text);
  }
  return i->NewString(std::move(out));
}

Result Items(Interpreter* i, const Value& input, const Call& call) {
  RETURN_IF_ERROR(Arguments::Bind("items", call, {}));
  if (input.IsUndefined()) return i->NewLazy({});
  if (!input.IsDict()) return FailedPrecondition("items needs a mapping");
  Values pairs;
  for (const auto& [key, value] : input.dict().entries()) {
    ASSIGN_OR_RETURN(Value pair, i->NewList({key, value}, /*tuple=*/true));
    pairs.push_back(std::move(pair));
  }
  return i->NewLazy(std::move(pairs));
}

// Strings sort without case unless asked otherwise.
Result SortKey(Interpreter* i, const Value& value, bool case_sensitive) {
  if (case_sensitive || !value.IsString()) return value;
  // Before it is built: a list may hold one text a hundred thousand times.
  RETURN_IF_ERROR(i->budget()->Bytes(value.text().size()));
  return Value::String(ChangeCase(value.text(), CaseChange::kLower));
}

struct Keyed {
  Value key;
  Value value;
};

absl::Status SortKeyed(Interpreter* i, bool reverse,
                       std::vector<Keyed>* items) {
  absl::Status status;
  // After an error the order no longer matters: the result is thrown away.
  const auto less = [&](const Keyed& a, const Keyed& b) {
    if (!status.ok()) return false;
    const auto order = reverse ? Order(b.key, a.key, i->budget())
                               : Order(a.key, b.key, i->budget());
    if (!order.ok()) status = order.status();
    return order.ok() && *order < 0;
  };
  std::stable_sort(items->begin(), items->end(), less);
  return status;
}

absl::StatusOr<std::vector<Keyed>> WithKeys(Interpreter* i, const Value& input,
                                            const Value* attribute,
                                            bool case_sensitive) {
  ASSIGN_OR_RETURN(const Values items, i->Iterate(input));
  std::vector<Keyed> keyed;
  for (const Value& item : items) {
    Value key = item;
    if (attribute) {
      ASSIGN_OR_RETURN(key, DottedAttribute(i, item, *attribute));
    }
    ASSIGN_OR_RETURN(key, SortKey(i, key, case_sensitive));
    keyed.push_back({std::move(key), item});
  }
  return keyed;
}

Result Sort(Interpreter* i, const Value& input, const Call& call) {
  ASSIGN_OR_RETURN(const Arguments args,
                   Arguments::Bind("sort", call,
                                   {"reverse", "case_sensitive", "attribute"}));
  ASSIGN_OR_RETURN(std::vector<Keyed> keyed,
                   WithKeys(i, input, args.Given(2), args.Truth(1, false)));
  RETURN_IF_ERROR(SortKeyed(i, args.Truth(0, false), &keyed));
  Values sorted;
  for (Keyed& item : keyed) sorted.push_back(std::move(item.value));
  return i->NewList(std::move(sorted));
}

Result DictSort(Interpreter* i, const Value& input, const Call& call) {
  ASSIGN_OR_RETURN(
      const Arguments args,
      Arguments::Bind("dictsort", call, {"case_sensitive", "by", "reverse"}));
  if (!input.IsDict()) return FailedPrecondition("dictsort needs a mapping");
  ASSIGN_OR_RETURN(const Text by, args.String(1, "key"));
  const bool by_key = by.view() == "key";
  if (!by_key && by.view() != "value") {
    return FailedPrecondition("dictsort sorts by 'key' or 'value'");
  }
  std::vector<Keyed> keyed;
  for (const auto& [key, value] : input.dict().entries()) {
    ASSIGN_OR_RETURN(Value pair, i->NewList({key, value}, /*tuple=*/true));
    ASSIGN_OR_RETURN(Value sort_key,
                     SortKey(i, by_key ? key : value, args.Truth(0, false)));
    keyed.push_back({std::move(sort_key), std::move(pair)});
  }
  RETURN_IF_ERROR(SortKeyed(i, args.Truth(2, false), &keyed));
  Values sorted;
  for (Keyed& item : keyed) sorted.push_back(std::move(item.value));
  return i->NewList(std::move(sorted));
}

Result Extreme(Interpreter* i, const Value& input, const Call& call, int sign) {
  ASSIGN_OR_RETURN(
      const Arguments args,
      Arguments::Bind("min or max", call, {"case_sensitive", "attribute"}));
  ASSIGN_OR_RETURN(const std::vector<Keyed> keyed,
                   WithKeys(i, input, args.Given(1), args.Truth(0, false)));
  if (keyed.empty()) return Value::MakeUndefined("item of an empty sequence");
  size_t best = 0;
  for (size_t n = 1; n < keyed.size(); ++n) {
    ASSIGN_OR_RETURN(const int order,
                     Order(keyed[n].key, keyed[best].key, i->budget()));
    if (order * sign > 0) best = n;
  }
  return keyed[best].value;
}

Result Max(Interpreter* i, const Value& input, const Call& call) {
  return Extreme(i, input, call, 1);
}

Result Min(Interpreter* i, const Value& input, const Call& call) {
  return Extreme(i, input, call, -1);
}

Result Unique(Interpreter* i, const Value& input, const Call& call) {
  ASSIGN_OR_RETURN(
      const Arguments args,
      Arguments::Bind("unique", call, {"case_sensitive", "attribute"}));
  ASSIGN_OR_RETURN(const std::vector<Keyed> keyed,
                   WithKeys(i, input, args.Given(1), args.Truth(0, false)));
  Dict seen;
  Values kept;
  for (const Keyed& item : keyed) {
    RETURN_IF_ERROR(item.key.CheckKey(i->budget()));
    if (seen.Find(item.key)) continue;
    RETURN_IF_ERROR(
        i->budget()->Step(static_cast<int64_t>(1 + kept.size() / 16)));
    seen.Set(item.key, Value::MakeNone());
    kept.push_back(item.value);
  }
  return i->NewLazy(std::move(kept));
}

Result Sum(Interpreter* i, const Value& input, const Call& call) {
  ASSIGN_OR_RETURN(const Arguments args,
                   Arguments::Bind("sum", call, {"attribute", "start"}));
  ASSIGN_OR_RETURN(const Values items, i->Iterate(input));
  Value total = args[1] ? *args[1] : Value::Int(0);
  for (Value item : items) {
    if (args.Given(0)) {
      ASSIGN_OR_RETURN(item, DottedAttribute(i, item, *args[0]));
    }
    ASSIGN_OR_RETURN(total, BinaryOperator(i, "+", total, item));
  }
  return total;
}

// map('upper'), map('replace', 'a', 'b'), map(attribute='role', default='')
Result Map(Interpreter* i, const Value& input, const Call& call) {
  ASSIGN_OR_RETURN(const Values items, i->Iterate(input));
  Values mapped;
  if (call.args.empty()) {
    ASSIGN_OR_RETURN(const Arguments args,
                     Arguments::Bind("map", call, {"attribute", "default"}, 1));
    for (const Value& item : items) {
      ASSIGN_OR_RETURN(Value value, DottedAttribute(i, item, *args[0]));
      if (value.IsUndefined() && args[1]) value = *args[1];
      mapped.push_back(std::move(value));
    }
    return i->NewLazy(std::move(mapped));
  }
  if (!call.args[0].IsString()) return FailedPrecondition("map: no filter");
  const std::string name = call.args[0].text().bytes();
  Call rest{Values(call.args.begin() + 1, call.args.end()), call.kwargs};
  for (const Value& item : items) {
    ASSIGN_OR_RETURN(Value value, i->ApplyFilter(name, item, rest));
    mapped.push_back(std::move(value));
  }
  return i->NewLazy(std::move(mapped));
}

// select, reject and their -attr kin: keep where a test (or truth) is `want`.
Result Choose(Interpreter* i, const Value& input, const Call& call,
              bool by_attribute, bool want) {
  ASSIGN_OR_RETURN(const Values items, i->Iterate(input));
  Call rest = call;
  Value attribute;
  std::string test;
  if (by_attribute) {
    if (rest.args.empty()) {
      return FailedPrecondition("missing parameter for attribute name");
    }
    attribute = rest.args[0];
    rest.args.erase(rest.args.begin());
  }
  if (!rest.args.empty()) {
    if (!rest.args[0].IsString()) return FailedPrecondition("no such test");
    test = rest.args[0].text().bytes();
    rest.args.erase(rest.args.begin());
  }
  Values kept;
  for (const Value& item : items) {
    RETURN_IF_ERROR(i->budget()->Step());
    Value tested = item;
    if (by_attribute) {
      ASSIGN_OR_RETURN(tested, DottedAttribute(i, item, attribute));
    }
    bool holds = tested.Truth();
    if (!test.empty()) {
      ASSIGN_OR_RETURN(holds, i->ApplyTest(test, tested, rest));
    }
    if (holds == want) kept.push_back(item);
  }
  return i->NewLazy(std::move(kept));
}

Result Select(Interpreter* i, const Value& input, const Call& call) {
  return Choose(i, input, call, false, true);
}
Result Reject(Interpreter* i, const Value& input, const Call& call) {
  return Choose(i, input, call, false, false);
}
Result SelectAttr(Interpreter* i, const Value& input, const Call& call) {
  return Choose(i, input, call, true, true);
}
Result RejectAttr(Interpreter* i, const Value& input, const Call& call) {
  return Choose(i, input, call, true, false);
}

Result Batch(Interpreter* i, const Value& input, const Call& call) {
  ASSIGN_OR_RETURN(
      const Arguments args,
      Arguments::Bind("batch", call, {"linecount", "fill_with"}, 1));
  ASSIGN_OR_RETURN(const int64_t size, args.Int(0, 1));
  ASSIGN_OR_RETURN(const Values items, i->Iterate(input));
  if (size < 1) return FailedPrecondition("batch: a line needs an item");
  Values lines;
  Values line;
  const auto flush = [&]() -> absl::Status {
    ASSIGN_OR_RETURN(Value list, i->NewList(std::move(line)));
    lines.push_back(std::move(list));
    line.clear();
    return absl::OkStatus();
  };
  for (const Value& item : items) {
    if (static_cast<int64_t>(line.size()) == size) RETURN_IF_ERROR(flush());
    line.push_back(item);
  }
  if (!line.empty()) {
    while (args.Given(1) && static_cast<int64_t>(line.size()) < size) {
      RETURN_IF_ERROR(i->budget()->Step());
      line.push_back(*args[1]);
    }
    RETURN_IF_ERROR(flush());
  }
  return i->NewLazy(std::move(lines));
}

}  // namespace

Filter FindSequenceFilter(std::string_view name) {
  static const auto* const table =
      new absl::flat_hash_map<std::string_view, Filter>{
          {"length", Length},
          {"count", Length},
          {"list", ToList},
          {"first", First},
          {"last", Last},
          {"reverse", Reverse},
          {"join", Join},
          {"items", Items},
          {"sort", Sort},
          {"dictsort", DictSort},
          {"max", Max},
          {"min", Min},
          {"unique", Unique},
          {"sum", Sum},
          {"map", Map},
          {"select", Select},
          {"reject", Reject},
          {"selectattr", SelectAttr},
          {"rejectattr", RejectAttr},
          {"batch", Batch},
      };
  const auto found = table->find(name);
  return found == table->end() ? nullptr : found->second;
}

}  // namespace conclave::engine
