// How long a whole decision takes: RoutingPolicy::Decide, from a request to a
// v1::Decision, with one expert for each category and one for `general`.
#ifndef CONCLAVE_BENCH_CLINC_BENCH_LATENCY_H_
#define CONCLAVE_BENCH_CLINC_BENCH_LATENCY_H_

#include "bench/clinc_bench/clinc_data.h"
#include "bench/clinc_bench/report.h"
#include "router_service/classify/vector_cache.h"

namespace conclave::bench {

// The fast tier alone, at 16, 512 and 8,192 tokens: p50 and p99 of the whole
// decision, and p50 of its reading.
void FastLatency(const Clinc& clinc, Labels labels);

// The encoder asked every time: what it adds to a query of CLINC150 and to 128
// tokens. `embed` is a worker's encoder in this process; the samples' vectors
// are clinc's.
void EncoderLatency(const Clinc& clinc, Labels labels,
                    const router::EmbedFn& embed);

}  // namespace conclave::bench

#endif  // CONCLAVE_BENCH_CLINC_BENCH_LATENCY_H_
