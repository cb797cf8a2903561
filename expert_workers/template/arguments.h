// A call's arguments by the names of the parameters, as Python binds them.
#ifndef CONCLAVE_EXPERT_WORKERS_TEMPLATE_ARGUMENTS_H_
#define CONCLAVE_EXPERT_WORKERS_TEMPLATE_ARGUMENTS_H_

#include <initializer_list>
#include <string_view>
#include <vector>

#include "expert_workers/template/value.h"

namespace conclave::engine {

class Arguments {
 public:
  // `call` outlives the result.
  //   FAILED_PRECONDITION  too many, unknown or doubled arguments, or fewer
  //                        than `required`
  static absl::StatusOr<Arguments> Bind(
      std::string_view what, const Call& call,
      std::initializer_list<std::string_view> names, size_t required = 0);

  // Null when the caller gave none.
  const Value* operator[](size_t i) const { return values_[i]; }
  // The same for None.
  const Value* Given(size_t i) const {
    return values_[i] && !values_[i]->IsNone() ? values_[i] : nullptr;
  }
  bool Truth(size_t i, bool fallback) const {
    return values_[i] ? values_[i]->Truth() : fallback;
  }
  absl::StatusOr<int64_t> Int(size_t i, int64_t fallback) const;
  // Strings alone.
  absl::StatusOr<Text> String(size_t i, std::string_view fallback) const;

 private:
  std::string_view what_;
  std::vector<const Value*> values_;
};

}  // namespace conclave::engine

#endif  // CONCLAVE_EXPERT_WORKERS_TEMPLATE_ARGUMENTS_H_
