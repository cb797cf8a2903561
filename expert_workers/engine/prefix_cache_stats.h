// What the prefix cache did; apart, because much reads it and little needs the
// cache.
#ifndef CONCLAVE_EXPERT_WORKERS_ENGINE_PREFIX_CACHE_STATS_H_
#define CONCLAVE_EXPERT_WORKERS_ENGINE_PREFIX_CACHE_STATS_H_

#include <cstdint>

namespace conclave::engine {

struct PrefixCacheStats {
  int64_t pages = 0;  // known now, in use or idle
  // Counters.
  int64_t lookups = 0;        // sequences admitted
  int64_t hits = 0;           // of them, those that reused anything
  int64_t tokens_wanted = 0;  // of all lookups
  int64_t tokens_saved = 0;   // not computed again
  int64_t evicted_pages = 0;
};

}  // namespace conclave::engine

#endif  // CONCLAVE_EXPERT_WORKERS_ENGINE_PREFIX_CACHE_STATS_H_
