// One call on its way through the host.
//
//   preparing -> waiting -> active -> over
//
// Threads: `phase` and what stands with it are guarded by the host's mutex;
// the rest belongs to whoever has the job: preparer, then host, then engine.
#ifndef CONCLAVE_EXPERT_WORKERS_HOST_JOB_H_
#define CONCLAVE_EXPERT_WORKERS_HOST_JOB_H_

#include <absl/time/time.h>

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "base/status.h"
#include "conclave/v1/worker.pb.h"
#include "expert_workers/answer_stream.h"
#include "expert_workers/engine/engine.h"

namespace conclave::workers {

struct HostedModel;

struct Job {
  enum class Kind : uint8_t { kGenerate, kEmbed, kLoad, kUnload };
  enum class Phase : uint8_t { kPreparing, kWaiting, kActive, kOver };

  Kind kind = Kind::kGenerate;
  std::string model_name;                        // as the caller gave it
  absl::Time deadline = absl::InfiniteFuture();  // the caller's
  absl::Time begin_by = absl::InfiniteFuture();  // the host's patience
  absl::Time arrived;
  std::atomic<bool> cancelled{false};
  std::atomic<bool> is_over{false};

  // Guarded by the host's mutex.
  Phase phase = Phase::kPreparing;
  uint64_t tag = 0;  // order among the waiting
  std::shared_ptr<HostedModel> model;
  uint64_t ticket = 0;  // the engine's; 0: not known yet
  bool cancel_sent = false;
  bool loads = false;  // the model was not live when the job began to wait

  // Whose it is; what has no tenant is everybody's.
  const std::string& tenant() const { return generate_request.tenant(); }

  // By kind.
  v1::WorkerGenerateRequest generate_request;
  StreamCallbacks generate_callbacks;
  engine::EngineRequest engine_request;
  std::unique_ptr<AnswerStream> stream;

  v1::EmbedRequest embed_request;
  std::function<void(absl::StatusOr<v1::EmbedResponse>)> embed_done;

  std::function<void(absl::StatusOr<v1::LoadResponse>)> load_done;
  std::function<void(absl::Status)> unload_done;

  // Tells the caller that the call is over without an answer. Once.
  void Fail(const absl::Status& status) {
    switch (kind) {
      case Kind::kGenerate:
        generate_callbacks.on_done(status);
        break;
      case Kind::kEmbed:
        embed_done(status);
        break;
      case Kind::kLoad:
        load_done(status);
        break;
      case Kind::kUnload:
        unload_done(status);
        break;
    }
  }
};
using JobPtr = std::shared_ptr<Job>;

}  // namespace conclave::workers

#endif  // CONCLAVE_EXPERT_WORKERS_HOST_JOB_H_
