#include "expert_workers/template/arguments.h"

#include <algorithm>

namespace conclave::engine {

absl::StatusOr<Arguments> Arguments::Bind(
    std::string_view what, const Call& call,
    std::initializer_list<std::string_view> names, size_t required) {
  Arguments bound;
  bound.what_ = what;
  bound.values_.resize(names.size());
  if (call.args.size() > names.size()) {
    return FailedPrecondition("{} takes {} arguments, {} given", what,
                              names.size(), call.args.size());
  }
  for (size_t i = 0; i < call.args.size(); ++i) {
    bound.values_[i] = &call.args[i];
  }
  for (const auto& [name, value] : call.kwargs) {
    const auto found = std::find(names.begin(), names.end(), name);
    const auto i = static_cast<size_t>(found - names.begin());
    if (found == names.end() || bound.values_[i] != nullptr) {
      return FailedPrecondition("{} got an unexpected argument '{}'", what,
                                name);
    }
    bound.values_[i] = &value;
  }
  for (size_t i = 0; i < required; ++i) {
    if (bound.values_[i] == nullptr) {
      return FailedPrecondition("{} needs argument '{}'", what,
                                *(names.begin() + i));
    }
  }
  return bound;
}

absl::StatusOr<int64_t> Arguments::Int(size_t i, int64_t fallback) const {
  const Value* value = values_[i];
  if (value == nullptr) return fallback;
  if (value->IsInt() || value->IsBool()) return value->AsInt();
  return FailedPrecondition("{}: an integer is needed, not {}", what_,
                            value->TypeName());
}

absl::StatusOr<Text> Arguments::String(size_t i,
                                       std::string_view fallback) const {
  const Value* value = values_[i];
  if (value == nullptr) return Text(std::string(fallback), true);
  if (value->IsString()) return value->text();
  return FailedPrecondition("{}: a string is needed, not {}", what_,
                            value->TypeName());
}

}  // namespace conclave::engine
