// Weights in and out, and the encoder's work.
#include <spdlog/spdlog.h>

#include <algorithm>

#include "expert_workers/engine/draft_model.h"
#include "expert_workers/host.h"

namespace conclave::workers {
namespace {

// How long the tier may take to find room that the host has made already.
constexpr absl::Duration kLoadTime = absl::Minutes(2);
constexpr int64_t kMaxKvShares = 8;

void WarnWithoutDraft(const HostedModel& model, const absl::Status& why) {
  spdlog::warn("model {:.12} goes without its draft model {:.12}: {}",
               model.manifest->version, model.draft->version, Message(why));
}

}  // namespace

void Host::MoveLoop() {
  while (const auto move = moves_.Pop(absl::InfiniteDuration())) {
    if (move->load) {
      LoadModel(move->model);
    } else {
      UnloadModel(move->model, move->evict);
    }
    Wake();
  }
}

void Host::LoadModel(const ModelPtr& model) {
  const absl::Time start = absl::Now();
  std::unique_ptr<engine::Engine> engine;
  std::unique_ptr<engine::Encoder> encoder;
  const absl::Status loaded =
      LoadWeights(*model, model->room.kv, engine, encoder);
  std::deque<JobPtr> failed;
  {
    std::lock_guard lock(mutex_);
    model->load_us = absl::ToInt64Microseconds(absl::Now() - start);
    if (loaded.ok()) {
      model->engine = std::move(engine);
      model->encoder = std::move(encoder);
      model->state = Residency::kLive;
    } else {
      model->state = Residency::kCold;
      failed.swap(model->waiting);
      for (const JobPtr& job : failed) LeaveQueueLocked(*job);
    }
  }
  for (const JobPtr& job : failed) {
    job->is_over = true;
    job->Fail(loaded);
  }
}

absl::Status Host::LoadWeights(HostedModel& model, int64_t kv_bytes,
                               std::unique_ptr<engine::Engine>& engine,
                               std::unique_ptr<engine::Encoder>& encoder) {
  std::shared_ptr<const engine::Tokenizer> tokenizer;
  {
    std::lock_guard lock(mutex_);
    if (stop_) return Unavailable("the worker is stopping");
    tokenizer = model.frontend->tokenizer();
  }
  ASSIGN_OR_RETURN(auto lease,
                   tier_->Acquire(model.manifest, absl::Now() + kLoadTime));
  if (model.encodes) {
    ASSIGN_OR_RETURN(encoder, engine::Encoder::Create(
                                  std::move(lease), tokenizer, compute_.get(),
                                  EncoderOptionsOf(options_)));
    return absl::OkStatus();
  }
  engine::EngineOptions options;
  options.kv_budget_bytes = kv_bytes;
  options.max_batch = options_.max_batch;
  options.max_context = options_.max_context;
  options.reference_path = options_.reference_path;
  options.isa = options_.isa;
  auto draft = LeaseDraft(model);
  const bool has_draft = draft != nullptr;
  auto made = engine::Engine::Create(std::move(lease), tokenizer,
                                     compute_.get(), options, std::move(draft));
  if (!made.ok() && has_draft) {
    WarnWithoutDraft(model, made.status());
    ASSIGN_OR_RETURN(lease,
                     tier_->Acquire(model.manifest, absl::Now() + kLoadTime));
    made = engine::Engine::Create(std::move(lease), tokenizer, compute_.get(),
                                  options);
  } else if (made.ok() && has_draft && !(*made)->Stats().has_draft_model) {
    WarnWithoutDraft(
        model, ResourceExhausted("the KV budget of {} bytes does not hold the "
                                 "caches of both",
                                 kv_bytes));
  }
  RETURN_IF_ERROR(made.status());
  engine = *std::move(made);
  return absl::OkStatus();
}

// Nothing, aloud, where it cannot guess: its target answers without.
std::unique_ptr<weights::ModelLease> Host::LeaseDraft(
    const HostedModel& model) {
  if (model.draft == nullptr) return nullptr;
  absl::Status fits =
      engine::DraftModel::CheckVocabulary(*model.draft, *model.manifest);
  if (fits.ok()) {
    auto lease = tier_->Acquire(model.draft, absl::Now() + kLoadTime);
    if (lease.ok()) return *std::move(lease);
    fits = lease.status();
  }
  WarnWithoutDraft(model, fits);
  return nullptr;
}

void Host::UnloadModel(const ModelPtr& model, bool evict) {
  std::unique_ptr<engine::Engine> engine;
  std::unique_ptr<engine::Encoder> encoder;
  {
    std::lock_guard lock(mutex_);
    engine = std::move(model->engine);
    encoder = std::move(model->encoder);
  }
  engine::EngineStats stats;
  if (engine != nullptr) stats = engine->Stats();
  engine.reset();
  encoder.reset();
  if (evict) tier_->Evict(model->manifest->version);
  std::vector<JobPtr> done;
  {
    std::lock_guard lock(mutex_);
    model->past.AddCounters(stats);
    model->state = Residency::kCold;
    if (evict) done.swap(model->unloads);
  }
  for (const JobPtr& job : done) {
    job->is_over = true;
    job->unload_done(absl::OkStatus());
  }
}

// The KV budget is divided among as many models as the weights' budget holds
// together, smallest first, so that each has its share when all are busy.
int64_t Host::KvShare() const {
  std::vector<int64_t> sizes;
  for (const weights::ModelEntry& entry : store_->List()) {
    if (!IsEncoder(entry.architecture)) sizes.push_back(entry.total_bytes);
  }
  std::sort(sizes.begin(), sizes.end());
  int64_t together = 0;
  int64_t used = 0;
  for (const int64_t size : sizes) {
    if (together > 0 && size > options_.ram_budget_bytes - used) break;
    used += size;
    if (++together == kMaxKvShares) break;
  }
  return options_.kv_budget_bytes / std::max<int64_t>(together, 1);
}

void Host::EmbedLoop(BoundedQueue<JobPtr>& queue) {
  while (const auto popped = queue.Pop(absl::InfiniteDuration())) {
    const JobPtr job = *popped;
    bool stopping = false;
    engine::Encoder* encoder = nullptr;
    {
      std::lock_guard lock(mutex_);
      stopping = stop_;
      encoder = job->model->encoder.get();
    }
    absl::StatusOr<v1::EmbedResponse> response =
        stopping ? absl::StatusOr<v1::EmbedResponse>(
                       Unavailable("the worker is stopping"))
                 : EmbedNow(*job, *encoder);
    Over(job);
    job->embed_done(std::move(response));
  }
}

absl::StatusOr<v1::EmbedResponse> Host::EmbedNow(
    const Job& job, engine::Encoder& encoder) const {
  v1::EmbedResponse response;
  response.set_model(job.model->manifest->version);
  int64_t tokens = 0;
  for (int i = 0; i < job.embed_request.inputs_size(); ++i) {
    if (job.cancelled) return Cancelled("cancelled");
    if (job.deadline <= absl::Now()) {
      return DeadlineExceeded("{} of {} inputs were embedded in time", i,
                              job.embed_request.inputs_size());
    }
    absl::StatusOr<engine::Embedding> embedding =
        encoder.Embed(job.embed_request.inputs(i));
    if (!embedding.ok()) {
      return Annotate(embedding.status(), fmt::format("input {}", i));
    }
    tokens += embedding->token_count;
    response.add_embeddings()->mutable_values()->Add(embedding->values.begin(),
                                                     embedding->values.end());
  }
  response.set_prompt_tokens(tokens);
  return response;
}

}  // namespace conclave::workers
