// Python's two string formatters, as far as templates use them.
#ifndef CONCLAVE_EXPERT_WORKERS_TEMPLATE_FORMAT_H_
#define CONCLAVE_EXPERT_WORKERS_TEMPLATE_FORMAT_H_

#include "expert_workers/template/interpreter.h"

namespace conclave::engine {

// "%s %d %.2f" % values: s, r, d, i, f, x and %%, with zero padding, width
// and precision.
absl::StatusOr<Value> FormatPercent(Interpreter* interpreter,
                                    const Text& format, const Values& values);

// "{} {0} {name}".format(...): no conversions, no specifications.
absl::StatusOr<Value> FormatBraces(Interpreter* interpreter, const Text& format,
                                   const Call& call);

}  // namespace conclave::engine

#endif  // CONCLAVE_EXPERT_WORKERS_TEMPLATE_FORMAT_H_
