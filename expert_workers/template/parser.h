// Tokens to a tree, by Jinja 3.1's grammar. Not supported, and refused by
// name: template inheritance and inclusion, autoescape, recursive loops.
#ifndef CONCLAVE_EXPERT_WORKERS_TEMPLATE_PARSER_H_
#define CONCLAVE_EXPERT_WORKERS_TEMPLATE_PARSER_H_

#include <string_view>

#include "expert_workers/template/ast.h"

namespace conclave::engine {

//   INVALID_ARGUMENT  "line 3: ..."
absl::StatusOr<Body> ParseTemplate(std::string_view source);

}  // namespace conclave::engine

#endif  // CONCLAVE_EXPERT_WORKERS_TEMPLATE_PARSER_H_
