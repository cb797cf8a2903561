#include "expert_workers/model_host.h"

#include "base/machine.h"
#include "expert_workers/host.h"
#include "expert_workers/weights/unit_memory.h"
#include "kernels/ops.h"

namespace conclave::workers {
namespace {

constexpr int kPrepareThreads = 2;

// Adds an engine's figures to what stands in `out`.
void Fill(const engine::EngineStats& stats, v1::WorkerStats::Model* out) {
  out->set_running(stats.running);
  out->set_waiting(out->waiting() + stats.waiting);
  out->set_kv_pages_used(stats.kv_pages_used);
  out->set_kv_pages_total(stats.kv_pages_total);
  out->set_prompt_tokens(stats.prompt_tokens);
  out->set_generated_tokens(stats.generated_tokens);
  out->set_preemptions(stats.preemptions);
  v1::WorkerStats::PrefixCache* prefix = out->mutable_prefix_cache();
  prefix->set_pages(stats.prefix.pages);
  prefix->set_lookups(stats.prefix.lookups);
  prefix->set_hits(stats.prefix.hits);
  prefix->set_tokens_wanted(stats.prefix.tokens_wanted);
  prefix->set_tokens_saved(stats.prefix.tokens_saved);
  prefix->set_evicted_pages(stats.prefix.evicted_pages);
  v1::WorkerStats::Speculation* speculation = out->mutable_speculation();
  speculation->set_draft_tokens(stats.draft_tokens);
  speculation->set_accepted_tokens(stats.accepted_tokens);
  v1::WorkerStats::ExpertCache* experts = out->mutable_expert_cache();
  experts->set_resident_bytes(stats.experts.resident_bytes);
  experts->set_hits(stats.experts.hits);
  experts->set_reads(stats.experts.reads);
  experts->set_evictions(stats.experts.evictions);
}

}  // namespace

int64_t Footprint(const weights::ModelManifest& manifest) {
  std::map<Hash128, int64_t> distinct;
  for (const weights::UnitInfo& unit : manifest.units) {
    distinct[unit.digest] = weights::UnitMemory::Footprint(unit.bytes);
  }
  int64_t bytes = 0;
  for (const auto& [digest, footprint] : distinct) bytes += footprint;
  return bytes;
}

int64_t LiveFootprint(const weights::ModelManifest& manifest,
                      const ModelHostOptions& options) {
  int64_t bytes =
      weights::RamTier::Footprint(manifest, options.ram_budget_bytes)
          .value_or(Footprint(manifest));
  if (IsEncoder(manifest.spec.hyperparameters.architecture)) {
    bytes += engine::Encoder::CopyBytes(manifest, EncoderOptionsOf(options));
  }
  return bytes;
}

class Host::Call final : public HostCall {
 public:
  Call(Host* host, JobPtr job) : host_(host), job_(std::move(job)) {}
  void Cancel() override {
    // Once the job is over the host may be gone too.
    if (job_->cancelled.exchange(true) || job_->is_over.load()) return;
    host_->Wake();
  }

 private:
  Host* const host_;
  const JobPtr job_;
};

Host::Host(weights::WeightStore* store, ModelHostOptions options)
    : store_(store),
      options_(std::move(options)),
      tier_(weights::RamTier::Create(store, options_.ram_budget_bytes)),
      compute_(engine::Compute::Create(options_.threads)),
      preparing_(2 * static_cast<size_t>(options_.max_waiting)),
      embedding_few_(static_cast<size_t>(options_.max_waiting) + 64),
      embedding_many_(static_cast<size_t>(options_.max_waiting) + 64),
      moves_(1024) {
  for (int i = 0; i < kPrepareThreads; ++i) {
    threads_.emplace_back([this] { Prepare(); });
  }
  threads_.emplace_back([this] { EmbedLoop(embedding_few_); });
  threads_.emplace_back([this] { EmbedLoop(embedding_many_); });
  mover_ = std::thread([this] { MoveLoop(); });
  director_ = std::thread([this] { DirectLoop(); });
}

std::shared_ptr<HostCall> Host::Begin(JobPtr job) {
  auto call = std::make_shared<Call>(this, job);
  absl::Status refused;
  {
    std::lock_guard lock(mutex_);
    if (stop_) {
      refused = Unavailable("the worker is stopping");
    } else {
      refused = EnterQueueLocked(*job);
    }
  }
  if (refused.ok() && !preparing_.TryPush(JobPtr(job))) {
    refused = Unavailable("the worker is stopping");
    std::lock_guard lock(mutex_);
    LeaveQueueLocked(*job);
  }
  if (!refused.ok()) {
    job->is_over = true;
    job->Fail(refused);
  }
  return call;
}

v1::WorkerStats Host::Stats() const {
  v1::WorkerStats stats;
  const weights::RamTierStats tier = tier_->Stats();
  stats.set_ram_budget_bytes(tier.budget_bytes);
  stats.set_ram_resident_bytes(tier.resident_bytes);
  stats.set_kv_budget_bytes(options_.kv_budget_bytes);
  stats.set_threads(options_.threads);
  stats.set_process_resident_bytes(ProcessResidentBytes());
  stats.set_isa(options_.reference_path ? "reference"
                : options_.isa.empty()
                    ? std::string(kernels::IsaName(kernels::BestIsa()))
                    : options_.isa);
  std::map<std::string, int64_t> resident;
  for (const weights::ResidentModel& model : tier.models) {
    resident[model.version] = model.resident_bytes;
  }
  const std::vector<weights::ModelEntry> entries = store_->List();
  std::lock_guard lock(mutex_);
  for (const weights::ModelEntry& entry : entries) {
    v1::WorkerStats::Model* out = stats.add_models();
    out->set_name(entry.name);
    out->set_version(entry.version);
    out->set_total_bytes(entry.total_bytes);
    out->set_resident_bytes(resident[entry.version]);
    const auto found = models_.find(entry.version);
    if (found == models_.end()) continue;
    const HostedModel& model = *found->second;
    out->set_waiting(static_cast<int64_t>(model.waiting.size()));
    engine::EngineStats now;
    now.running = model.active;
    if (model.engine != nullptr) now = model.engine->Stats();
    now.AddCounters(model.past);
    Fill(now, out);
  }
  return stats;
}

Host::~Host() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
  }
  news_.notify_all();
  director_.join();
  preparing_.Close();
  embedding_few_.Close();
  embedding_many_.Close();
  for (std::thread& thread : threads_) thread.join();
  moves_.Close();
  mover_.join();
  // Only this thread is left, and the engines' own.
  std::vector<JobPtr> waiting;
  std::vector<ModelPtr> models;
  {
    std::lock_guard lock(mutex_);
    for (const auto& [version, model] : models_) {
      models.push_back(model);
      waiting.insert(waiting.end(), model->waiting.begin(),
                     model->waiting.end());
      waiting.insert(waiting.end(), model->unloads.begin(),
                     model->unloads.end());
      model->waiting.clear();
      model->unloads.clear();
    }
  }
  for (const JobPtr& job : waiting) {
    job->is_over = true;
    job->Fail(Unavailable("the worker is stopping"));
  }
  for (const ModelPtr& model : models) {
    model->engine.reset();  // Cancels, and tells the callers.
    model->encoder.reset();
  }
}

std::unique_ptr<ModelHost> ModelHost::Create(weights::WeightStore* store,
                                             ModelHostOptions options) {
  return std::make_unique<Host>(store, std::move(options));
}

}  // namespace conclave::workers
