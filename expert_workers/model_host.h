// Runs models: loads them on demand, keeps them while they have work, and lets
// them take turns in memory when not all fit (residency.h says how). Three
// models under a budget that holds one are served by switching, not by
// failing.
//
//   call -> prepare (tokenizer, template) -> wait for the model -> engine
//            2 threads, bounded queue         bounded, deadline; tenants in
//                                             turn (fair_order.h)
//
// A director thread decides and talks to engines; a mover thread loads and
// unloads; two threads embed, one of them small requests alone.
//
// Threads: all methods may run concurrently and return at once. Callbacks of
// one call come one at a time, on a thread of the host's, and must not block.
#ifndef CONCLAVE_EXPERT_WORKERS_MODEL_HOST_H_
#define CONCLAVE_EXPERT_WORKERS_MODEL_HOST_H_

#include <absl/time/time.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "base/status.h"
#include "conclave/v1/common.pb.h"
#include "conclave/v1/worker.pb.h"
#include "expert_workers/client.h"
#include "expert_workers/weights/weight_store.h"

namespace conclave::workers {

struct ModelHostOptions {
  int64_t ram_budget_bytes = int64_t{4} << 30;   // weights
  int64_t kv_budget_bytes = int64_t{512} << 20;  // caches of all models
  int threads = 1;
  int32_t max_batch = 16;   // sequences of one model running together
  int64_t max_context = 0;  // 0: the model's own
  // Requests of all models that have not begun. A tenant with few among them
  // (a sixteenth) may still add one, up to twice as many in all.
  int32_t max_waiting = 256;
  // Requests a busy model may take past an earlier one of a model that waits
  // for its room.
  int32_t turn_requests = 16;
  // A request that has not begun by then is given back.
  absl::Duration max_wait = absl::Minutes(5);
  bool reference_path = false;
  std::string isa = {};  // "": the best there is
  // Who guesses for whom, by models' names: a smaller model of the same
  // vocabulary (engine/draft_model.h). Its weights take room beside the other's
  // whenever that is live. Left out where both do not fit the budget.
  std::map<std::string, std::string> drafts = {};
};

// A call in progress.
class HostCall {
 public:
  virtual ~HostCall() = default;
  // The call ends soon, with CANCELLED. Any thread, any time.
  virtual void Cancel() = 0;
};

class ModelHost {
 public:
  // `store` is borrowed.
  static std::unique_ptr<ModelHost> Create(weights::WeightStore* store,
                                           ModelHostOptions options);
  // Ends everything with UNAVAILABLE and waits for that.
  virtual ~ModelHost() = default;

  // As the RPCs of worker.proto, with their errors.
  virtual std::shared_ptr<HostCall> Generate(
      const v1::WorkerGenerateRequest& request, absl::Time deadline,
      StreamCallbacks callbacks) = 0;
  virtual std::shared_ptr<HostCall> Embed(
      const v1::EmbedRequest& request, absl::Time deadline,
      std::function<void(absl::StatusOr<v1::EmbedResponse>)> done) = 0;
  virtual std::shared_ptr<HostCall> Load(
      const v1::LoadRequest& request, absl::Time deadline,
      std::function<void(absl::StatusOr<v1::LoadResponse>)> done) = 0;
  virtual std::shared_ptr<HostCall> Unload(
      const v1::UnloadRequest& request, absl::Time deadline,
      std::function<void(absl::Status)> done) = 0;
  virtual v1::WorkerStats Stats() const = 0;
};

}  // namespace conclave::workers

#endif  // CONCLAVE_EXPERT_WORKERS_MODEL_HOST_H_
