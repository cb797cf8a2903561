// GET /v1/models: what `model` may be, from the registry's snapshot.
#ifndef CONCLAVE_ROUTER_SERVICE_GATEWAY_MODEL_LIST_H_
#define CONCLAVE_ROUTER_SERVICE_GATEWAY_MODEL_LIST_H_

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/status.h"
#include "registry/expert_spec.h"

namespace conclave::gateway {

// "auto" first, then serving experts, aliases and models; each name once.
// Entries: {id, object: "model", created, owned_by, kind}.
nlohmann::ordered_json ModelList(const registry::Snapshot& snapshot);

// One entry of it. NOT_FOUND with the nearest names.
absl::StatusOr<nlohmann::ordered_json> ModelEntry(
    const registry::Snapshot& snapshot, const std::string& id);

// Every name that `model` may be, in that order.
std::vector<std::string> ModelNames(const registry::Snapshot& snapshot);

}  // namespace conclave::gateway

#endif  // CONCLAVE_ROUTER_SERVICE_GATEWAY_MODEL_LIST_H_
