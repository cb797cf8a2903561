// Sentence vectors of CLINC150 by our own encoder, as it is served.
#ifndef CONCLAVE_BENCH_CLINC_BENCH_OWN_VECTORS_H_
#define CONCLAVE_BENCH_CLINC_BENCH_OWN_VECTORS_H_

#include <memory>
#include <string>

#include "bench/clinc_bench/clinc_data.h"
#include "expert_workers/engine/compute.h"
#include "expert_workers/engine/encoder.h"

namespace conclave::bench {

struct OwnEncoder {
  std::unique_ptr<engine::Compute> compute;
  std::unique_ptr<engine::Encoder> encoder;  // null: the model is not here
};

// `model` is a folder in the models' folder (engine/real_model.h).
OwnEncoder MakeOwnEncoder(const std::string& model, int threads);

// Replaces every row's vector by `encoder`'s; where the row had one (the
// oracle's), prints how near the two are.
void EmbedAll(engine::Encoder& encoder, Clinc* clinc);

}  // namespace conclave::bench

#endif  // CONCLAVE_BENCH_CLINC_BENCH_OWN_VECTORS_H_
