// From a request to something an engine takes.
#include <algorithm>

#include "expert_workers/host.h"
#include "expert_workers/wire.h"

namespace conclave::workers {
namespace {

// Tokenizers and templates of models that are not in memory; a large
// vocabulary is some 40 MB.
constexpr size_t kMaxKnownModels = 16;
constexpr int kMaxEmbedInputs = 256;
constexpr size_t kMaxTenantBytes = 256;

}  // namespace

void Host::Prepare() {
  while (auto popped = preparing_.Pop(absl::InfiniteDuration())) {
    const JobPtr job = *popped;
    absl::Status status;
    if (job->cancelled) {
      status = Cancelled("cancelled");
    } else {
      status = PrepareOne(job);
    }
    {
      std::lock_guard lock(mutex_);
      if (status.ok() && stop_) status = Unavailable("the worker is stopping");
      if (status.ok()) {
        WaitForModelLocked(job);
        dirty_ = true;
      } else {
        LeaveQueueLocked(*job);
      }
    }
    if (status.ok()) {
      news_.notify_one();
    } else {
      job->is_over = true;
      job->Fail(status);
    }
  }
}

absl::Status Host::PrepareOne(const JobPtr& job) {
  ASSIGN_OR_RETURN(const ModelPtr model, FindModel(job->model_name));
  {
    std::lock_guard lock(mutex_);
    job->model = model;
  }
  if (job->kind == Job::Kind::kUnload) return absl::OkStatus();
  const int64_t bytes = LiveFootprint(*model->manifest, options_);
  if (bytes > options_.ram_budget_bytes) {
    RETURN_IF_ERROR(
        weights::RamTier::Footprint(*model->manifest, options_.ram_budget_bytes)
            .status());
    return ResourceExhausted(
        "model \"{}\" needs {} bytes of memory, the budget is {}; give a "
        "larger --ram-budget",
        job->model_name, bytes, options_.ram_budget_bytes);
  }
  RETURN_IF_ERROR(EnsureFrontend(model));
  if (job->kind == Job::Kind::kGenerate) return PrepareGenerate(job, model);
  if (job->kind == Job::Kind::kEmbed) {
    if (!model->encodes) {
      return InvalidArgument(
          "model \"{}\" is no encoder; embeddings need one, such as "
          "all-MiniLM-L6-v2",
          job->model_name);
    }
    if (job->embed_request.inputs().empty() ||
        job->embed_request.inputs_size() > kMaxEmbedInputs) {
      return InvalidArgument("there are {} inputs; give 1 to {}",
                             job->embed_request.inputs_size(), kMaxEmbedInputs);
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<ModelPtr> Host::FindModel(const std::string& name) {
  ASSIGN_OR_RETURN(const auto manifest, store_->Manifest(name));
  const bool encodes = IsEncoder(manifest->spec.hyperparameters.architecture);
  {
    // One that is in memory has its cache and its draft model already.
    std::lock_guard lock(mutex_);
    const auto known = models_.find(manifest->version);
    if (known != models_.end() && known->second->state == Residency::kLive) {
      known->second->last_used = ++use_clock_;
      return known->second;
    }
  }
  std::shared_ptr<const weights::ModelManifest> draft;
  if (!encodes) {
    kv_share_ = KvShare();
    draft = FindDraft(*manifest);
  }
  std::lock_guard lock(mutex_);
  ModelPtr& model = models_[manifest->version];
  if (model == nullptr) {
    model = std::make_shared<HostedModel>();
    model->manifest = manifest;
    model->draft = std::move(draft);
    model->encodes = encodes;
    const ModelPtr made = model;
    made->last_used = ++use_clock_;
    ForgetOldModelsLocked();
    return made;
  }
  // It may have been imported since.
  if (model->state == Residency::kCold) model->draft = std::move(draft);
  model->last_used = ++use_clock_;
  return model;
}

std::shared_ptr<const weights::ModelManifest> Host::FindDraft(
    const weights::ModelManifest& manifest) const {
  for (const auto& [name, draft_name] : options_.drafts) {
    const auto target = store_->Manifest(name);
    if (!target.ok() || (*target)->version != manifest.version) continue;
    const auto draft = store_->Manifest(draft_name);
    if (!draft.ok()) continue;
    const int64_t together =
        LiveFootprint(manifest, options_) + Footprint(**draft);
    if (together <= options_.ram_budget_bytes) return *draft;
  }
  return nullptr;
}

void Host::ForgetOldModelsLocked() {
  while (models_.size() > kMaxKnownModels) {
    auto oldest = models_.end();
    for (auto it = models_.begin(); it != models_.end(); ++it) {
      const HostedModel& model = *it->second;
      // Somebody who is preparing holds a second reference.
      const bool unused = model.state == Residency::kCold &&
                          model.waiting.empty() && model.unloads.empty() &&
                          it->second.use_count() == 1;
      if (unused && (oldest == models_.end() ||
                     model.last_used < oldest->second->last_used)) {
        oldest = it;
      }
    }
    if (oldest == models_.end()) return;
    models_.erase(oldest);
  }
}

absl::Status Host::EnsureFrontend(const ModelPtr& model) {
  {
    std::lock_guard lock(mutex_);
    if (model->frontend != nullptr) return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(std::shared_ptr<const Frontend> frontend,
                   Frontend::Create(model->manifest));
  std::lock_guard lock(mutex_);
  if (model->frontend == nullptr) model->frontend = std::move(frontend);
  return absl::OkStatus();
}

absl::Status Host::PrepareGenerate(const JobPtr& job, const ModelPtr& model) {
  if (model->encodes) {
    return InvalidArgument(
        "model \"{}\" is an encoder: it embeds and does not generate",
        job->model_name);
  }
  const v1::WorkerGenerateRequest& request = job->generate_request;
  if (request.tenant().size() > kMaxTenantBytes) {
    return InvalidArgument("the tenant has {} bytes; it may have {}",
                           request.tenant().size(), kMaxTenantBytes);
  }
  std::shared_ptr<const Frontend> frontend;
  {
    std::lock_guard lock(mutex_);
    frontend = model->frontend;
  }
  ASSIGN_OR_RETURN(engine::SamplingParams sampling,
                   FromProto(request.sampling()));
  ASSIGN_OR_RETURN(Prompt prompt, frontend->Build(request));
  const auto length = static_cast<int64_t>(prompt.tokens.size());
  int64_t context = model->manifest->spec.hyperparameters.max_context;
  if (options_.max_context > 0) {
    context = std::min(context, options_.max_context);
  }
  // Said now, before the model is loaded for nothing; the engine checks again
  // with max_tokens.
  if (length > context) {
    return InvalidArgument(
        "context_length_exceeded: the prompt has {} tokens, the context {}",
        length, context);
  }
  job->stream = std::make_unique<AnswerStream>(
      AnswerStream::Start{.request_id = request.request_id(),
                          .version = model->manifest->version,
                          .prompt_tokens = length,
                          .prompt_text = std::move(prompt.text),
                          .echo = request.sampling().echo(),
                          .logprobs = sampling.logprobs >= 0,
                          .n = sampling.n},
      frontend->tokenizer(), job->generate_callbacks);
  job->engine_request.request_id = request.request_id();
  job->engine_request.tenant = request.tenant();
  job->engine_request.prompt = std::move(prompt.tokens);
  job->engine_request.sampling = std::move(sampling);
  job->engine_request.deadline = job->deadline;
  return absl::OkStatus();
}

}  // namespace conclave::workers
