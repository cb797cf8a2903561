// The table of Jinja's filters.
#ifndef CONCLAVE_EXPERT_WORKERS_TEMPLATE_FILTERS_H_
#define CONCLAVE_EXPERT_WORKERS_TEMPLATE_FILTERS_H_

#include <string_view>

#include "expert_workers/template/interpreter.h"

namespace conclave::engine {

using Filter = absl::StatusOr<Value> (*)(Interpreter*, const Value& input,
                                         const Call& call);

// Null for unknown names. Text and number filters live in filters.cc, those
// that walk sequences in sequence_filters.cc.
Filter FindTextFilter(std::string_view name);
Filter FindSequenceFilter(std::string_view name);

}  // namespace conclave::engine

#endif  // CONCLAVE_EXPERT_WORKERS_TEMPLATE_FILTERS_H_
