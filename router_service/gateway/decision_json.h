// The one JSON form of a decision: POST /v1/route, GET /v1/decisions/{id} and
// `conclave route --json` all print this object.
//
//   {"request_id", "expert", "category", "confidence", "novelty",
//    "posterior": {category: p},
//    "candidates": [{"expert", "quality", "cost", "score", "propensity",
//                    "why"}],
//    "tier", "router_us", "versions": {part: version}, "why"}
#ifndef CONCLAVE_ROUTER_SERVICE_GATEWAY_DECISION_JSON_H_
#define CONCLAVE_ROUTER_SERVICE_GATEWAY_DECISION_JSON_H_

#include <nlohmann/json.hpp>
#include <string>

#include "conclave/v1/common.pb.h"
#include "conclave/v1/router.pb.h"

namespace conclave::gateway {

// Exactly the keys above, in that order; numbers that are not finite become
// null.
nlohmann::ordered_json DecisionJson(const v1::Decision& decision);

// The decision's keys, then `outcome` (null while the request runs, or when
// it was only routed) and `feedback` (an array).
nlohmann::ordered_json ExplainJson(const v1::ExplainResponse& response);

// One line of JSON; bytes that are not UTF-8 become U+FFFD.
std::string Dump(const nlohmann::ordered_json& value);

}  // namespace conclave::gateway

#endif  // CONCLAVE_ROUTER_SERVICE_GATEWAY_DECISION_JSON_H_
