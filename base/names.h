// The grammar of names that people give (experts, models, categories,
// aliases) and the nearest known one for a message. A name is never a path:
//   name = [a-z0-9] , up to 63 more of [a-z0-9._-]
// and it may not contain "..". `auto` is reserved: it means "route".
#ifndef CONCLAVE_BASE_NAMES_H_
#define CONCLAVE_BASE_NAMES_H_

#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace conclave {

// INVALID_ARGUMENT naming `what` and the rule broken.
absl::Status CheckName(std::string_view what, std::string_view name);

// Up to `limit` of `known`, nearest by edit distance first; none when nothing
// is near (distance over a third of the name, and no shared prefix).
std::vector<std::string> NearestNames(std::string_view name,
                                      const std::vector<std::string>& known,
                                      size_t limit = 3);

// " Did you mean: a, b?" or "".
std::string DidYouMean(std::string_view name,
                       const std::vector<std::string>& known);

}  // namespace conclave

#endif  // CONCLAVE_BASE_NAMES_H_
