// What may be registered, drained and removed: the rules of registry.h as
// pure functions of a snapshot, so that every implementation refuses alike
// and with the same words. Each message says what to do.
#ifndef CONCLAVE_REGISTRY_RULES_H_
#define CONCLAVE_REGISTRY_RULES_H_

#include <absl/time/time.h>

#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "registry/expert_spec.h"

namespace conclave::registry {

// The category that answers what no other does.
inline constexpr std::string_view kGeneralCategory = "general";

// The spec by itself: names, limits, exactly one of model, endpoint and base.
absl::Status CheckExpertSpec(const ExpertSpec& spec);
// And in this state: name free; model, base and worker there.
absl::Status CheckRegister(const Snapshot& state, const ExpertSpec& spec);

// The expert of that name, or NOT_FOUND with the nearest ones.
absl::StatusOr<std::shared_ptr<const ExpertSpec>> FindExpert(
    const Snapshot& state, std::string_view name);
// The model of that name, or NOT_FOUND with the nearest ones.
absl::StatusOr<ModelRecord> FindModel(const Snapshot& state,
                                      std::string_view name);

// ABORTED unless `expected` is 0 or the expert's version.
absl::Status CheckVersion(const ExpertSpec& expert, uint64_t expected);
// Whether `expert` may stop serving.
absl::Status CheckRetire(const Snapshot& state, const ExpertSpec& expert);

absl::Status CheckModel(const Snapshot& state, const ModelRecord& model);
absl::Status CheckRemoveModel(const Snapshot& state, std::string_view name,
                              std::string_view expected_version);
absl::Status CheckSetAlias(const Snapshot& state, std::string_view alias,
                           std::string_view expert, uint64_t expected_version);
absl::Status CheckRemoveAlias(const Snapshot& state, std::string_view alias,
                              uint64_t expected_version);
absl::Status CheckWorker(std::string_view name, std::string_view address,
                         const std::vector<std::string>& models,
                         absl::Duration lease);
absl::Status CheckIdempotencyKey(std::string_view key);

}  // namespace conclave::registry

#endif  // CONCLAVE_REGISTRY_RULES_H_
