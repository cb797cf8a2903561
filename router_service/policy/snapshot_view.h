// What a registry snapshot says to the policy: samples to learn from, experts
// that may be chosen, and who is meant by a name.
#ifndef CONCLAVE_ROUTER_SERVICE_POLICY_SNAPSHOT_VIEW_H_
#define CONCLAVE_ROUTER_SERVICE_POLICY_SNAPSHOT_VIEW_H_

#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "registry/client.h"
#include "router_service/classify/training_set.h"
#include "router_service/prompt/prompt_chain.h"
#include "router_service/select/selection.h"

namespace conclave::router {

// The samples of all experts, whatever their state: a draining expert's
// category may be served by others. A sample without a category belongs to its
// expert's first one.
TrainingSet SamplesOf(const registry::Snapshot& snapshot);

// Changes when the samples may have changed, and not with every heartbeat.
uint64_t SamplesFingerprint(const registry::Snapshot& snapshot);

// Experts that are serving, with every base beneath them serving too. Views
// into `snapshot`; by name.
std::vector<ExpertView> AvailableExperts(const registry::Snapshot& snapshot);

// The experts beneath a prompt expert, over the snapshot.
absl::StatusOr<PromptChain> ChainOf(const registry::Snapshot& snapshot,
                                    std::string_view expert);

// The expert that `model` names: an expert, else an alias, else a model that
// experts run (the available one of the lowest name).
//   NOT_FOUND    nothing has that name; lists the nearest
//   UNAVAILABLE  the expert is joining or draining, or its base is
absl::StatusOr<std::string> ExpertNamed(const registry::Snapshot& snapshot,
                                        std::string_view model);

}  // namespace conclave::router

#endif  // CONCLAVE_ROUTER_SERVICE_POLICY_SNAPSHOT_VIEW_H_
