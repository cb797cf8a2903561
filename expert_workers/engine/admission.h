// What an engine refuses before it starts, with the arithmetic.
#ifndef CONCLAVE_EXPERT_WORKERS_ENGINE_ADMISSION_H_
#define CONCLAVE_EXPERT_WORKERS_ENGINE_ADMISSION_H_

#include <cstdint>

#include "base/status.h"
#include "expert_workers/engine/engine.h"
#include "expert_workers/engine/kv_cache.h"

namespace conclave::engine {

// INVALID_ARGUMENT naming the option, its value and its range.
absl::Status CheckOptions(const EngineOptions& options);

// As Engine::Submit says, the queue apart. `max_context` is the engine's.
absl::Status CheckRequest(const EngineRequest& request, int64_t vocab_size,
                          int64_t max_context, const KvCache& cache);

}  // namespace conclave::engine

#endif  // CONCLAVE_EXPERT_WORKERS_ENGINE_ADMISSION_H_
