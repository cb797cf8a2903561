// Python's methods of str, list and dict.
#include <unicode/uchar.h>

#include <algorithm>

#include "expert_workers/template/arguments.h"
#include "expert_workers/template/format.h"
#include "expert_workers/template/interpreter.h"
#include "expert_workers/template/value_format.h"
#include "expert_workers/tokenizer/unicode.h"

namespace conclave::engine {
namespace {

using Result = absl::StatusOr<Value>;
using Method = Result (*)(Interpreter*, const Value& self, const Call& call);
using Table = absl::flat_hash_map<std::string_view, Method>;

template <CaseChange kChange>
Result WithCase(Interpreter* i, const Value& self, const Call& call) {
  RETURN_IF_ERROR(Arguments::Bind("case method", call, {}));
  return i->NewString(ChangeCase(self.text(), kChange));
}

template <bool kLeft, bool kRight>
Result StripMethod(Interpreter* i, const Value& self, const Call& call) {
  ASSIGN_OR_RETURN(const Arguments args,
                   Arguments::Bind("strip", call, {"chars"}));
  RETURN_IF_ERROR(i->budget()->Scan(self.text().size()));
  if (!args.Given(0)) {
    return i->NewString(Strip(self.text(), "", kLeft, kRight));
  }
  ASSIGN_OR_RETURN(const Text chars, args.String(0, ""));
  if (chars.empty()) return self;
  // The set is sorted.
  RETURN_IF_ERROR(i->budget()->Scan(chars.size() * 16));
  return i->NewString(Strip(self.text(), chars.view(), kLeft, kRight));
}

Result FromTexts(Interpreter* i, std::vector<Text> texts) {
  Values parts;
  for (Text& text : texts) {
    ASSIGN_OR_RETURN(Value part, i->NewString(std::move(text)));
    parts.push_back(std::move(part));
  }
  return i->NewList(std::move(parts));
}

template <bool kFromRight>
Result SplitMethod(Interpreter* i, const Value& self, const Call& call) {
  ASSIGN_OR_RETURN(const Arguments args,
                   Arguments::Bind("split", call, {"sep", "maxsplit"}));
  Text separator;
  if (args.Given(0)) {
    ASSIGN_OR_RETURN(separator, args.String(0, ""));
    if (separator.empty()) return FailedPrecondition("empty separator");
  }
  ASSIGN_OR_RETURN(const int64_t limit, args.Int(1, -1));
  // Every part costs a string; splitting from the right copies what is left.
  RETURN_IF_ERROR(i->budget()->Bytes(self.text().size() * 16));
  RETURN_IF_ERROR(i->budget()->Search(self.text().size(), separator.size()));
  if (kFromRight && limit > 1024) {
    return ResourceExhausted("rsplit: at most 1024 splits");
  }
  return FromTexts(i, kFromRight
                          ? SplitFromRight(self.text(), separator.view(), limit)
                          : Split(self.text(), separator.view(), limit));
}

Result SplitLinesMethod(Interpreter* i, const Value& self, const Call& call) {
  ASSIGN_OR_RETURN(const Arguments args,
                   Arguments::Bind("splitlines", call, {"keepends"}));
  RETURN_IF_ERROR(i->budget()->Bytes(self.text().size() * 16));
  return FromTexts(i, SplitLines(self.text(), args.Truth(0, false)));
}

// startswith and endswith take one string or a tuple of them.
template <bool kStart>
Result Affix(Interpreter* i, const Value& self, const Call& call) {
  ASSIGN_OR_RETURN(
      const Arguments args,
      Arguments::Bind(kStart ? "startswith" : "endswith", call, {"prefix"}, 1));
  const bool tuple = args[0]->IsList() && args[0]->list().tuple;
  const Values affixes = tuple ? args[0]->list().items : Values{*args[0]};
  RETURN_IF_ERROR(i->budget()->Step(static_cast<int64_t>(affixes.size())));
  for (const Value& affix : affixes) {
    if (!affix.IsString()) {
      return FailedPrecondition("startswith and endswith need strings");
    }
    const std::string_view view = self.text().view();
    const std::string_view want = affix.text().view();
    RETURN_IF_ERROR(i->budget()->Scan(want.size()));
    if (kStart ? view.starts_with(want) : view.ends_with(want)) {
      return Value::Bool(true);
    }
  }
  return Value::Bool(false);
}

template <bool kPrefix>
Result RemoveAffix(Interpreter* i, const Value& self, const Call& call) {
  ASSIGN_OR_RETURN(const Arguments args,
                   Arguments::Bind("removeprefix", call, {"affix"}, 1));
  ASSIGN_OR_RETURN(const Text affix, args.String(0, ""));
  const Text& text = self.text();
  const bool has = kPrefix ? text.view().starts_with(affix.view())
                           : text.view().ends_with(affix.view());
  if (!has) return self;
  const size_t rest = text.size() - affix.size();
  return i->NewString(text.Substr(kPrefix ? affix.size() : 0, rest));
}

Result ReplaceMethod(Interpreter* i, const Value& self, const Call& call) {
  ASSIGN_OR_RETURN(
      const Arguments args,
      Arguments::Bind("replace", call, {"old", "new", "count"}, 2));
  if (!args[0]->IsString() || !args[1]->IsString()) {
    return FailedPrecondition("replace needs strings");
  }
  return i->ApplyFilter("replace", self, call);
}

Result JoinMethod(Interpreter* i, const Value& self, const Call& call) {
  ASSIGN_OR_RETURN(const Arguments args,
                   Arguments::Bind("join", call, {"iterable"}, 1));
  ASSIGN_OR_RETURN(const Values items, i->Iterate(*args[0]));
  for (const Value& item : items) {
    if (!item.IsString()) {
      return FailedPrecondition("join needs strings, not {}", item.TypeName());
    }
  }
  return i->ApplyFilter("join", *args[0], {{self}, {}});
}

template <bool kLast, bool kMust>
Result FindMethod(Interpreter* i, const Value& self, const Call& call) {
  ASSIGN_OR_RETURN(const Arguments args,
                   Arguments::Bind("find", call, {"sub"}, 1));
  ASSIGN_OR_RETURN(const Text sub, args.String(0, ""));
  const std::string_view view = self.text().view();
  RETURN_IF_ERROR(i->budget()->Search(view.size(), sub.size()));
  const size_t at = kLast ? FindLast(view, sub.view()) : Find(view, sub.view());
  if (at == std::string_view::npos) {
    if (kMust) return FailedPrecondition("substring not found");
    return Value::Int(-1);
  }
  return Value::Int(CountCharacters(view.substr(0, at)));
}

Result CountMethod(Interpreter* i, const Value& self, const Call& call) {
  ASSIGN_OR_RETURN(const Arguments args,
                   Arguments::Bind("count", call, {"sub"}, 1));
  int64_t count = 0;
  if (self.IsList()) {
    for (const Value& item : self.list().items) {
      ASSIGN_OR_RETURN(const bool equal, Equal(item, *args[0], i->budget()));
      count += equal ? 1 : 0;
    }
    return Value::Int(count);
  }
  ASSIGN_OR_RETURN(const Text sub, args.String(0, ""));
  const std::string_view view = self.text().view();
  RETURN_IF_ERROR(i->budget()->Search(view.size(), sub.size()));
  if (sub.empty()) return Value::Int(CountCharacters(view) + 1);
  for (size_t at = Find(view, sub.view()); at != std::string_view::npos;
       at = Find(view, sub.view(), at + sub.size())) {
    ++count;
  }
  return Value::Int(count);
}

bool IsDigitChar(char32_t c) {
  return u_isdigit(static_cast<UChar32>(c)) ||
         u_getIntPropertyValue(static_cast<UChar32>(c), UCHAR_NUMERIC_TYPE) ==
             U_NT_DIGIT;
}
bool IsAlphaChar(char32_t c) { return Classify(c) == CharClass::kLetter; }
bool IsAlnumChar(char32_t c) {
  return IsAlphaChar(c) || Classify(c) == CharClass::kNumber;
}

template <bool (*kPredicate)(char32_t)>
Result AllChars(Interpreter* i, const Value& self, const Call& call) {
  RETURN_IF_ERROR(Arguments::Bind("str method", call, {}));
  const std::string_view view = self.text().view();
  RETURN_IF_ERROR(i->budget()->Scan(view.size()));
  for (size_t pos = 0; pos < view.size();) {
    const CodePoint c = DecodeUtf8(view, pos);
    if (c.value == kInvalidByte || !kPredicate(c.value)) {
      return Value::Bool(false);
    }
    pos += c.length;
  }
  return Value::Bool(!view.empty());
}

template <bool kUpper>
Result IsCase(Interpreter* i, const Value& self, const Call& call) {
  RETURN_IF_ERROR(Arguments::Bind("str method", call, {}));
  ASSIGN_OR_RETURN(const bool yes,
                   i->ApplyTest(kUpper ? "upper" : "lower", self, {}));
  return Value::Bool(yes);
}

template <bool kFromRight>
Result Partition(Interpreter* i, const Value& self, const Call& call) {
  ASSIGN_OR_RETURN(const Arguments args,
                   Arguments::Bind("partition", call, {"sep"}, 1));
  ASSIGN_OR_RETURN(const Text sep, args.String(0, ""));
  if (sep.empty()) return FailedPrecondition("empty separator");
  const Text& text = self.text();
  RETURN_IF_ERROR(i->budget()->Search(text.size(), sep.size()));
  const size_t at = kFromRight ? FindLast(text.view(), sep.view())
                               : Find(text.view(), sep.view());
  const Value none = Value::Trusted("");
  if (at == std::string_view::npos) {
    return i->NewList(
        kFromRight ? Values{none, none, self} : Values{self, none, none}, true);
  }
  ASSIGN_OR_RETURN(Value head, i->NewString(text.Substr(0, at)));
  ASSIGN_OR_RETURN(Value tail, i->NewString(text.Substr(at + sep.size())));
  return i->NewList({head, Value::String(sep), tail}, true);
}

Result FormatMethod(Interpreter* i, const Value& self, const Call& call) {
  return FormatBraces(i, self.text(), call);
}

Result IndexMethod(Interpreter* i, const Value& self, const Call& call) {
  ASSIGN_OR_RETURN(const Arguments args,
                   Arguments::Bind("index", call, {"value"}, 1));
  const Values& items = self.list().items;
  for (size_t n = 0; n < items.size(); ++n) {
    ASSIGN_OR_RETURN(const bool equal, Equal(items[n], *args[0], i->budget()));
    if (equal) return Value::Int(static_cast<int64_t>(n));
  }
  return FailedPrecondition("value is not in list");
}

Result Get(Interpreter* i, const Value& self, const Call& call) {
  ASSIGN_OR_RETURN(const Arguments args,
                   Arguments::Bind("get", call, {"key", "default"}, 1));
  RETURN_IF_ERROR(args[0]->CheckKey(i->budget()));
  if (const Value* found = self.dict().Find(*args[0])) return *found;
  return args[1] ? *args[1] : Value::MakeNone();
}

template <bool kKeys, bool kValues>
Result DictView(Interpreter* i, const Value& self, const Call& call) {
  RETURN_IF_ERROR(Arguments::Bind("dict method", call, {}));
  Values out;
  for (const auto& [key, value] : self.dict().entries()) {
    if (kKeys && kValues) {
      ASSIGN_OR_RETURN(Value pair, i->NewList({key, value}, true));
      out.push_back(std::move(pair));
    } else {
      out.push_back(kKeys ? key : value);
    }
  }
  return i->NewList(std::move(out));
}

Result Copy(Interpreter*, const Value& self, const Call& call) {
  RETURN_IF_ERROR(Arguments::Bind("copy", call, {}));
  return self;  // Values never change.
}

// The sandbox's answer to everything that changes a list or a dict.
Result Forbidden(Interpreter*, const Value& self, const Call&) {
  return FailedPrecondition("a template may not change a {}", self.TypeName());
}

const Table& StringMethods() {
  static const auto* const table = new Table{
      {"upper", WithCase<CaseChange::kUpper>},
      {"lower", WithCase<CaseChange::kLower>},
      {"title", WithCase<CaseChange::kTitle>},
      {"capitalize", WithCase<CaseChange::kCapitalize>},
      {"strip", StripMethod<true, true>},
      {"lstrip", StripMethod<true, false>},
      {"rstrip", StripMethod<false, true>},
      {"split", SplitMethod<false>},
      {"rsplit", SplitMethod<true>},
      {"splitlines", SplitLinesMethod},
      {"startswith", Affix<true>},
      {"endswith", Affix<false>},
      {"removeprefix", RemoveAffix<true>},
      {"removesuffix", RemoveAffix<false>},
      {"replace", ReplaceMethod},
      {"join", JoinMethod},
      {"find", FindMethod<false, false>},
      {"rfind", FindMethod<true, false>},
      {"index", FindMethod<false, true>},
      {"rindex", FindMethod<true, true>},
      {"count", CountMethod},
      {"isdigit", AllChars<IsDigitChar>},
      {"isalpha", AllChars<IsAlphaChar>},
      {"isalnum", AllChars<IsAlnumChar>},
      {"isspace", AllChars<IsPythonSpace>},
      {"isupper", IsCase<true>},
      {"islower", IsCase<false>},
      {"partition", Partition<false>},
      {"rpartition", Partition<true>},
      {"format", FormatMethod},
  };
  return *table;
}

const Table& ListMethods() {
  static const auto* const table = new Table{
      {"index", IndexMethod}, {"count", CountMethod}, {"append", Forbidden},
      {"extend", Forbidden},  {"insert", Forbidden},  {"pop", Forbidden},
      {"remove", Forbidden},  {"reverse", Forbidden}, {"sort", Forbidden},
      {"clear", Forbidden},   {"copy", Copy},
  };
  return *table;
}

const Table& DictMethods() {
  static const auto* const table = new Table{
      {"get", Get},
      {"keys", DictView<true, false>},
      {"values", DictView<false, true>},
      {"items", DictView<true, true>},
      {"copy", Copy},
      {"update", Forbidden},
      {"pop", Forbidden},
      {"popitem", Forbidden},
      {"setdefault", Forbidden},
      {"clear", Forbidden},
  };
  return *table;
}

Method FindMethod(const Value& object, std::string_view name) {
  const Table* table = nullptr;
  if (object.IsString()) table = &StringMethods();
  if (object.IsList() && !object.list().lazy) table = &ListMethods();
  if (object.IsDict()) table = &DictMethods();
  if (table == nullptr) return nullptr;
  const auto found = table->find(name);
  if (found == table->end()) return nullptr;
  const bool mutates = found->second == Forbidden || name == "copy";
  if (object.IsList() && object.list().tuple && mutates) return nullptr;
  return found->second;
}

}  // namespace

bool HasMethod(const Value& object, std::string_view name) {
  return FindMethod(object, name) != nullptr;
}

absl::StatusOr<Value> CallMethod(Interpreter* interpreter, const Value& object,
                                 std::string_view name, const Call& call) {
  RETURN_IF_ERROR(interpreter->budget()->Step());
  RETURN_IF_ERROR(interpreter->PayForTexts(call));
  const Method method = FindMethod(object, name);
  if (method == nullptr) {
    return FailedPrecondition("'{}' has no method '{}'", object.TypeName(),
                              name);
  }
  return method(interpreter, object, call);
}

}  // namespace conclave::engine
