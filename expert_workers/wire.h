// Engine values <-> messages.
#ifndef CONCLAVE_EXPERT_WORKERS_WIRE_H_
#define CONCLAVE_EXPERT_WORKERS_WIRE_H_

#include "base/status.h"
#include "conclave/v1/common.pb.h"
#include "expert_workers/engine/engine.h"
#include "expert_workers/engine/sampling_params.h"
#include "expert_workers/tokenizer/tokenizer.h"

namespace conclave::workers {

// Checked by engine::CheckSamplingParams. `echo` with logprobs asks for the
// prompt's logprobs too.
absl::StatusOr<engine::SamplingParams> FromProto(
    const v1::SamplingParams& message);

v1::TokenLogprob ToProto(const engine::TokenEvent& event,
                         const engine::Tokenizer& tokenizer);

// One event's delta. Token details only when they were asked for.
v1::GenerateEvent ToDelta(const engine::EngineEvent& event,
                          const engine::Tokenizer& tokenizer, bool logprobs);

// "stop", "length", "cancelled"; "" while it runs, or for an error.
const char* ReasonName(engine::FinishReason reason);

}  // namespace conclave::workers

#endif  // CONCLAVE_EXPERT_WORKERS_WIRE_H_
