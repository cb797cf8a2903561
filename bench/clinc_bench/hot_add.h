// How soon after a registration its category is served, and how well.
#ifndef CONCLAVE_BENCH_CLINC_BENCH_HOT_ADD_H_
#define CONCLAVE_BENCH_CLINC_BENCH_HOT_ADD_H_

#include <cstddef>

#include "bench/clinc_bench/clinc_data.h"

namespace conclave::bench {

// Trains on `per_intent` samples of 149 intents, or of one intent of each of 9
// domains, then adds one more with 20 samples; prints the times and the recall
// of the new one on its 20 validation texts.
void HotAdd(const Clinc& clinc, bool all_intents, size_t per_intent);

}  // namespace conclave::bench

#endif  // CONCLAVE_BENCH_CLINC_BENCH_HOT_ADD_H_
