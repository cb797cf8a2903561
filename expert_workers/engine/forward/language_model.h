// A decoder-only transformer: token ids in, logits out. One step computes rows
// of several sequences together; what a row's result is does not depend on the
// others. What a layer computes is its family's business (../../families/).
#ifndef CONCLAVE_EXPERT_WORKERS_ENGINE_FORWARD_LANGUAGE_MODEL_H_
#define CONCLAVE_EXPERT_WORKERS_ENGINE_FORWARD_LANGUAGE_MODEL_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "base/status.h"
#include "expert_workers/engine/compute.h"
#include "expert_workers/engine/kv_cache.h"
#include "expert_workers/weights/ram_tier.h"
#include "kernels/ops.h"

namespace conclave::engine {

// Consecutive tokens of one sequence: rows [first_row, first_row + num_rows)
// of a batch, at positions first_position and on.
struct SequenceRows {
  int64_t first_row = 0;
  int64_t num_rows = 0;
  int64_t first_position = 0;
  const PageTable* pages = nullptr;  // every one of these positions writable
};

struct Batch {
  std::vector<int32_t> tokens;          // one a row
  std::vector<SequenceRows> sequences;  // in order, covering every row
  std::vector<int64_t> logit_rows;      // ascending: whose logits are wanted
};

// A row whose computation lacked something; its logits mean nothing, those of
// others are what they are without it.
struct RowFailure {
  int64_t row = 0;
  absl::Status status;
};

// How a step is computed.
struct StepContext {
  Compute* compute = nullptr;
  // Called between layers; true abandons the step. The keys and values that
  // it wrote are written again, alike, by the next try.
  std::function<bool()> between_layers;
};

class LanguageModel {
 public:
  // The family that `lease`'s architecture names, its tensors found and their
  // shapes checked. `lease` and `cache` outlive it.
  //   UNIMPLEMENTED    no family runs this architecture; says which there are
  //   INVALID_ARGUMENT a tensor is missing or has another shape
  static absl::StatusOr<std::unique_ptr<LanguageModel>> Create(
      const weights::ModelLease& lease, const kernels::Ops& ops);
  virtual ~LanguageModel() = default;

  // The cache that Forward wants.
  virtual KvShape kv_shape(kernels::KvType type) const = 0;
  virtual int64_t vocab_size() const = 0;

  // Runs the layers for `batch`; afterwards Logits answers for its
  // logit_rows. False when abandoned. Call while holding the Turn.
  virtual bool Forward(const Batch& batch, const KvCache& cache,
                       const StepContext& step) = 0;

  // Of the last Forward; a row may stand there more than once.
  virtual std::span<const RowFailure> failures() const { return {}; }

  // Logits of logit_rows[begin, end) of the last Forward.
  //   out [end - begin, vocab_size]
  virtual void Logits(int64_t begin, int64_t end, Compute* compute,
                      float* out) = 0;
};

}  // namespace conclave::engine

#endif  // CONCLAVE_EXPERT_WORKERS_ENGINE_FORWARD_LANGUAGE_MODEL_H_
