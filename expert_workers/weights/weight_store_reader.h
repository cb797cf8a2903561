// The weight store of a second process, beside the one that owns the
// directory: a worker on the same machine needs no copy of the weights.
#ifndef CONCLAVE_EXPERT_WORKERS_WEIGHTS_WEIGHT_STORE_READER_H_
#define CONCLAVE_EXPERT_WORKERS_WEIGHTS_WEIGHT_STORE_READER_H_

#include <memory>
#include <string>

#include "base/status.h"
#include "expert_workers/weights/weight_store.h"

namespace conclave::weights {

// NOT_FOUND: nobody has made a store there yet.
absl::StatusOr<std::unique_ptr<WeightStore>> OpenWeightStoreReader(
    const std::string& path);

}  // namespace conclave::weights

#endif  // CONCLAVE_EXPERT_WORKERS_WEIGHTS_WEIGHT_STORE_READER_H_
