// Inside the host: its state and its threads. model_host.cc begins and ends
// calls, host_prepare.cc makes prompts, host_director.cc decides, and
// host_mover.cc moves weights and embeds.
#ifndef CONCLAVE_EXPERT_WORKERS_HOST_H_
#define CONCLAVE_EXPERT_WORKERS_HOST_H_

#include <atomic>
#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "base/bounded_queue.h"
#include "expert_workers/engine/compute.h"
#include "expert_workers/engine/encoder.h"
#include "expert_workers/engine/engine.h"
#include "expert_workers/fair_order.h"
#include "expert_workers/frontend.h"
#include "expert_workers/host_job.h"
#include "expert_workers/model_host.h"
#include "expert_workers/residency.h"
#include "expert_workers/weights/ram_tier.h"

namespace conclave::workers {

// A model the host knows; guarded by the host's mutex except as noted.
struct HostedModel {
  std::shared_ptr<const weights::ModelManifest> manifest;  // const
  std::shared_ptr<const Frontend> frontend;  // null until first needed
  bool encodes = false;                      // const
  Residency state = Residency::kCold;
  Room room;  // fixed while not cold
  // Guesses for it; may be null. Fixed while not cold.
  std::shared_ptr<const weights::ModelManifest> draft;
  // Made and destroyed by the mover while kLoading and kLeaving; used by the
  // director and the embedder while kLive.
  std::unique_ptr<engine::Engine> engine;
  std::unique_ptr<engine::Encoder> encoder;
  std::deque<JobPtr> waiting;  // ascending tags
  std::vector<JobPtr> unloads;
  int active = 0;
  uint64_t last_used = 0;
  int turn_used = 0;
  int64_t load_us = 0;
  engine::EngineStats past;  // counters of engines that are gone
};
using ModelPtr = std::shared_ptr<HostedModel>;

// What a manifest's weights take of the budget, as the tier counts it.
int64_t Footprint(const weights::ModelManifest& manifest);
// What the model takes while it is live: with an encoder's 8-bit copies; at
// most the budget for a mixture whose experts are read when they are wanted.
int64_t LiveFootprint(const weights::ModelManifest& manifest,
                      const ModelHostOptions& options);
// How encoders are made.
inline engine::EncoderOptions EncoderOptionsOf(
    const ModelHostOptions& options) {
  return {.reference_path = options.reference_path, .isa = options.isa};
}

inline bool IsEncoder(std::string_view architecture) {
  return architecture == "bert";
}

class Host final : public ModelHost {
 public:
  Host(weights::WeightStore* store, ModelHostOptions options);
  ~Host() override;

  std::shared_ptr<HostCall> Generate(const v1::WorkerGenerateRequest& request,
                                     absl::Time deadline,
                                     StreamCallbacks callbacks) override {
    auto job = NewJob(Job::Kind::kGenerate, request.model(), deadline);
    job->generate_request = request;
    job->generate_callbacks = std::move(callbacks);
    return Begin(std::move(job));
  }
  std::shared_ptr<HostCall> Embed(
      const v1::EmbedRequest& request, absl::Time deadline,
      std::function<void(absl::StatusOr<v1::EmbedResponse>)> done) override {
    auto job = NewJob(Job::Kind::kEmbed, request.model(), deadline);
    job->embed_request = request;
    job->embed_done = std::move(done);
    return Begin(std::move(job));
  }
  std::shared_ptr<HostCall> Load(
      const v1::LoadRequest& request, absl::Time deadline,
      std::function<void(absl::StatusOr<v1::LoadResponse>)> done) override {
    auto job = NewJob(Job::Kind::kLoad, request.model(), deadline);
    job->load_done = std::move(done);
    return Begin(std::move(job));
  }
  std::shared_ptr<HostCall> Unload(
      const v1::UnloadRequest& request, absl::Time deadline,
      std::function<void(absl::Status)> done) override {
    auto job = NewJob(Job::Kind::kUnload, request.model(), deadline);
    job->unload_done = std::move(done);
    return Begin(std::move(job));
  }
  v1::WorkerStats Stats() const override;

 private:
  class Call;
  struct Move {
    ModelPtr model;
    bool load = false;
    bool evict = false;  // with an unload: also what the tier keeps of it
  };
  // What the director does once it has let go of the mutex.
  struct Actions {
    std::vector<std::pair<JobPtr, absl::Status>> fail;
    std::vector<std::pair<engine::Engine*, uint64_t>> cancel;
    std::vector<JobPtr> start;
    std::vector<Move> moves;
  };

  JobPtr NewJob(Job::Kind kind, const std::string& model,
                absl::Time deadline) const {
    auto job = std::make_shared<Job>();
    job->kind = kind;
    job->model_name = model;
    job->arrived = absl::Now();
    job->deadline = deadline;
    job->begin_by = std::min(deadline, job->arrived + options_.max_wait);
    return job;
  }
  std::shared_ptr<HostCall> Begin(JobPtr job);
  void Wake() {
    {
      std::lock_guard lock(mutex_);
      dirty_ = true;
    }
    news_.notify_one();
  }
  // RESOURCE_EXHAUSTED when no more of the tenant's may wait.
  absl::Status EnterQueueLocked(const Job& job);
  void LeaveQueueLocked(const Job& job);
  // The job is prepared: it waits for its turn.
  void WaitForModelLocked(const JobPtr& job);
  // Places in a model's engine that are anybody's: some beyond the batch, so
  // that the engine never waits for the host.
  int SharedSlots() const;
  // Requests of `model` that may be in its engine. With the shared places
  // taken there is one for each waiting tenant that has nothing there: the
  // engine lets it in beside another's long answers.
  int MaxActiveLocked(const HostedModel& model) const;
  // Whose turn it is, taken from model.waiting; nullptr when only tenants
  // wait that have requests in the engine, and the shared places are taken.
  JobPtr TakeNextLocked(HostedModel& model);
  // The job has ended by itself or by Fail.
  void Over(const JobPtr& job);

  void Prepare();
  absl::Status PrepareOne(const JobPtr& job);
  absl::StatusOr<ModelPtr> FindModel(const std::string& name);
  // Who guesses for the model of `manifest`, if both fit; else null.
  std::shared_ptr<const weights::ModelManifest> FindDraft(
      const weights::ModelManifest& manifest) const;
  absl::Status EnsureFrontend(const ModelPtr& model);
  absl::Status PrepareGenerate(const JobPtr& job, const ModelPtr& model);
  void ForgetOldModelsLocked();

  void DirectLoop();
  void CollectEndedLocked(Actions& actions);
  void DecideLocked(Actions& actions);
  void Perform(Actions actions);
  void Start(const JobPtr& job);

  void MoveLoop();
  void LoadModel(const ModelPtr& model);
  absl::Status LoadWeights(HostedModel& model, int64_t kv_bytes,
                           std::unique_ptr<engine::Engine>& engine,
                           std::unique_ptr<engine::Encoder>& encoder);
  std::unique_ptr<weights::ModelLease> LeaseDraft(const HostedModel& model);
  void UnloadModel(const ModelPtr& model, bool evict);
  int64_t KvShare() const;

  void EmbedLoop(BoundedQueue<JobPtr>& queue);
  absl::StatusOr<v1::EmbedResponse> EmbedNow(const Job& job,
                                             engine::Encoder& encoder) const;

  weights::WeightStore* const store_;
  const ModelHostOptions options_;
  const std::unique_ptr<weights::RamTier> tier_;
  const std::unique_ptr<engine::Compute> compute_;

  BoundedQueue<JobPtr> preparing_;
  // Apart, so that the router's one text does not wait for a batch of 256.
  BoundedQueue<JobPtr> embedding_few_;
  BoundedQueue<JobPtr> embedding_many_;
  BoundedQueue<Move> moves_;

  mutable std::mutex mutex_;
  std::condition_variable news_;
  bool dirty_ = false;
  bool stop_ = false;
  std::atomic<int64_t> kv_share_{0};
  // Jobs that prepare or wait, by tenant; and all of them.
  std::map<std::string, int> not_begun_;
  int num_not_begun_ = 0;
  FairOrder order_;
  uint64_t use_clock_ = 0;
  std::map<std::string, ModelPtr> models_;  // by version id
  std::vector<JobPtr> active_;              // generate jobs with an engine

  std::vector<std::thread> threads_;
  std::thread mover_;
  std::thread director_;
};

}  // namespace conclave::workers

#endif  // CONCLAVE_EXPERT_WORKERS_HOST_H_
