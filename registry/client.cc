#include "registry/client.h"

#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <thread>

#include "base/rpc/client_call.h"
#include "conclave/v1/registry.grpc.pb.h"
#include "registry/codec.h"
#include "registry/expert_state.h"

namespace conclave::registry {
namespace {

using rpc::FromGrpc;
using rpc::SetDeadline;

// Between two attempts to reach the registry.
constexpr std::chrono::milliseconds kFirstRetry{50};
constexpr std::chrono::milliseconds kSlowestRetry{1000};

int64_t NowMs() { return absl::ToUnixMillis(absl::Now()); }

void Apply(const v1::Change& change, Snapshot& state) {
  state.revision = std::max(state.revision, change.revision());
  switch (change.what_case()) {
    case v1::Change::kExpert:
      state.experts[change.expert().name()] =
          std::make_shared<const ExpertSpec>(FromProto(change.expert()));
      break;
    case v1::Change::kRemovedExpert:
      state.experts.erase(change.removed_expert());
      break;
    case v1::Change::kWorker:
      state.workers[change.worker().name()] =
          FromProto(change.worker(), NowMs());
      break;
    case v1::Change::kRemovedWorker:
      state.workers.erase(change.removed_worker());
      break;
    case v1::Change::kModel:
      state.models[change.model().name()] = FromProto(change.model());
      break;
    case v1::Change::kRemovedModel:
      state.models.erase(change.removed_model());
      break;
    case v1::Change::kAlias:
      state.aliases[change.alias().name()] = FromProto(change.alias());
      break;
    case v1::Change::kRemovedAlias:
      state.aliases.erase(change.removed_alias());
      break;
    case v1::Change::kCaughtUp:
    case v1::Change::WHAT_NOT_SET:
      break;
  }
}

// Follows the registry on a thread of its own. After a loss the last state
// stays in use until the whole of the new one has arrived.
class Mirror {
 public:
  explicit Mirror(std::shared_ptr<grpc::Channel> channel)
      : stub_(v1::Registry::NewStub(std::move(channel))),
        snapshot_(std::make_shared<const Snapshot>()),
        thread_([this] { Run(); }) {}

  ~Mirror() {
    {
      std::lock_guard lock(mutex_);
      stop_ = true;
      if (context_ != nullptr) context_->TryCancel();
    }
    changed_.notify_all();
    thread_.join();
  }

  std::shared_ptr<const Snapshot> snapshot() const {
    return std::atomic_load(&snapshot_);
  }

  absl::Status WaitUntilReady(absl::Time deadline) {
    std::unique_lock lock(mutex_);
    const auto ready = [this] { return ready_; };
    if (deadline == absl::InfiniteFuture()) {
      changed_.wait(lock, ready);
    } else if (!changed_.wait_until(lock, absl::ToChronoTime(deadline),
                                    ready)) {
      return DeadlineExceeded("the registry did not answer in time{}{}",
                              last_error_.empty() ? "" : ": ", last_error_);
    }
    return absl::OkStatus();
  }

  void OnChange(std::function<void(std::shared_ptr<const Snapshot>)> callback) {
    std::lock_guard lock(callbacks_mutex_);
    callbacks_.push_back(std::move(callback));
  }

 private:
  void Run() {
    std::chrono::milliseconds retry = kFirstRetry;
    for (;;) {
      grpc::ClientContext context;
      {
        std::lock_guard lock(mutex_);
        if (stop_) return;
        context_ = &context;
      }
      if (Follow(context)) retry = kFirstRetry;
      std::unique_lock lock(mutex_);
      context_ = nullptr;
      if (changed_.wait_for(lock, retry, [this] { return stop_; })) return;
      retry = std::min(retry * 2, kSlowestRetry);
    }
  }

  // One Watch, until it ends. True when it had caught up.
  bool Follow(grpc::ClientContext& context) {
    v1::WatchRequest request;
    const auto reader = stub_->Watch(&context, request);
    Snapshot state;
    bool caught_up = false;
    v1::Change change;
    while (reader->Read(&change)) {
      Apply(change, state);
      caught_up = caught_up || change.caught_up();
      if (caught_up) Publish(state);
    }
    const grpc::Status status = reader->Finish();
    std::lock_guard lock(mutex_);
    last_error_ = status.error_message();
    return caught_up;
  }

  void Publish(Snapshot& state) {
    SettleStates(state);
    const auto published = std::make_shared<const Snapshot>(state);
    std::atomic_store(&snapshot_, published);
    {
      std::lock_guard lock(mutex_);
      ready_ = true;
    }
    changed_.notify_all();
    std::lock_guard lock(callbacks_mutex_);
    for (const auto& callback : callbacks_) callback(published);
  }

  const std::unique_ptr<v1::Registry::Stub> stub_;
  std::shared_ptr<const Snapshot> snapshot_;  // std::atomic_load/store only
  std::mutex mutex_;
  std::condition_variable changed_;
  bool ready_ = false;
  bool stop_ = false;
  std::string last_error_;
  grpc::ClientContext* context_ = nullptr;  // of the Watch in progress
  std::mutex callbacks_mutex_;
  std::vector<std::function<void(std::shared_ptr<const Snapshot>)>> callbacks_;
  std::thread thread_;  // last: uses all of the above
};

class GrpcRegistryClient final : public RegistryClient {
 public:
  explicit GrpcRegistryClient(std::shared_ptr<grpc::Channel> channel)
      : stub_(v1::Registry::NewStub(channel)), mirror_(std::move(channel)) {}

  std::shared_ptr<const Snapshot> snapshot() const override {
    return mirror_.snapshot();
  }
  absl::Status WaitUntilReady(absl::Time deadline) override {
    return mirror_.WaitUntilReady(deadline);
  }
  void OnChange(
      std::function<void(std::shared_ptr<const Snapshot>)> callback) override {
    mirror_.OnChange(std::move(callback));
  }

  absl::StatusOr<ExpertSpec> RegisterExpert(const ExpertSpec& spec,
                                            const std::string& idempotency_key,
                                            absl::Time deadline) override {
    v1::RegisterExpertRequest request;
    *request.mutable_expert() = ToProto(spec);
    request.set_idempotency_key(idempotency_key);
    ASSIGN_OR_RETURN(
        const v1::Expert expert,
        Call(&v1::Registry::Stub::RegisterExpert, request, deadline));
    return FromProto(expert);
  }
  absl::StatusOr<ExpertSpec> DrainExpert(const std::string& name,
                                         const std::string& idempotency_key,
                                         absl::Time deadline) override {
    v1::ExpertRequest request;
    request.set_name(name);
    request.set_idempotency_key(idempotency_key);
    ASSIGN_OR_RETURN(const v1::Expert expert,
                     Call(&v1::Registry::Stub::DrainExpert, request, deadline));
    return FromProto(expert);
  }
  absl::Status RemoveExpert(const std::string& name, uint64_t expected_version,
                            const std::string& idempotency_key,
                            absl::Time deadline) override {
    v1::ExpertRequest request;
    request.set_name(name);
    request.set_expected_version(expected_version);
    request.set_idempotency_key(idempotency_key);
    return Call(&v1::Registry::Stub::RemoveExpert, request, deadline).status();
  }
  absl::StatusOr<std::vector<ExpertSpec>> ListExperts(
      absl::Time deadline) override;
  absl::StatusOr<ModelRecord> ImportModel(
      const std::string& path, const std::string& name,
      const std::string& idempotency_key,
      const std::function<void(int64_t done, int64_t total)>& progress,
      absl::Time deadline) override;
  absl::StatusOr<std::vector<ModelRecord>> ListModels(
      absl::Time deadline) override {
    ASSIGN_OR_RETURN(
        const v1::ListModelsResponse response,
        Call(&v1::Registry::Stub::ListModels, v1::ListRequest(), deadline));
    std::vector<ModelRecord> models;
    for (const v1::Model& model : response.models()) {
      models.push_back(FromProto(model));
    }
    return models;
  }
  absl::Status RemoveModel(const std::string& name,
                           const std::string& expected_version,
                           const std::string& idempotency_key,
                           absl::Time deadline) override {
    v1::ModelRequest request;
    request.set_name(name);
    request.set_expected_version(expected_version);
    request.set_idempotency_key(idempotency_key);
    return Call(&v1::Registry::Stub::RemoveModel, request, deadline).status();
  }
  absl::StatusOr<AliasRecord> SetAlias(const std::string& alias,
                                       const std::string& expert,
                                       uint64_t expected_version,
                                       const std::string& idempotency_key,
                                       absl::Time deadline) override {
    v1::SetAliasRequest request;
    request.mutable_alias()->set_name(alias);
    request.mutable_alias()->set_target(expert);
    request.set_expected_version(expected_version);
    request.set_idempotency_key(idempotency_key);
    ASSIGN_OR_RETURN(const v1::Alias set,
                     Call(&v1::Registry::Stub::SetAlias, request, deadline));
    return FromProto(set);
  }
  absl::Status RemoveAlias(const std::string& alias, uint64_t expected_version,
                           const std::string& idempotency_key,
                           absl::Time deadline) override {
    v1::AliasRequest request;
    request.set_name(alias);
    request.set_expected_version(expected_version);
    request.set_idempotency_key(idempotency_key);
    return Call(&v1::Registry::Stub::RemoveAlias, request, deadline).status();
  }

  absl::StatusOr<WorkerRecord> JoinWorker(
      const std::string& name, const std::string& address,
      const std::vector<std::string>& models, absl::Time deadline) override {
    v1::JoinWorkerRequest request;
    request.set_name(name);
    request.set_address(address);
    request.mutable_models()->Add(models.begin(), models.end());
    ASSIGN_OR_RETURN(const v1::JoinWorkerResponse response,
                     Call(&v1::Registry::Stub::JoinWorker, request, deadline));
    return WorkerRecord{.name = name,
                        .address = address,
                        .epoch = response.epoch(),
                        .lease_expires_unix_ms = NowMs() + response.lease_ms(),
                        .models = models};
  }
  absl::StatusOr<WorkerRecord> HeartbeatWorker(
      const std::string& name, uint64_t epoch,
      const std::vector<std::string>& models, absl::Time deadline) override {
    v1::HeartbeatWorkerRequest request;
    request.set_name(name);
    request.set_epoch(epoch);
    request.mutable_models()->Add(models.begin(), models.end());
    ASSIGN_OR_RETURN(
        const v1::HeartbeatWorkerResponse response,
        Call(&v1::Registry::Stub::HeartbeatWorker, request, deadline));
    return WorkerRecord{.name = name,
                        .address = "",
                        .epoch = epoch,
                        .lease_expires_unix_ms = NowMs() + response.lease_ms(),
                        .models = models};
  }
  absl::Status LeaveWorker(const std::string& name, uint64_t epoch,
                           absl::Time deadline) override {
    v1::LeaveWorkerRequest request;
    request.set_name(name);
    request.set_epoch(epoch);
    return Call(&v1::Registry::Stub::LeaveWorker, request, deadline).status();
  }

 private:
  template <typename Request, typename Response>
  absl::StatusOr<Response> Call(
      grpc::Status (v1::Registry::Stub::*method)(grpc::ClientContext*,
                                                 const Request&, Response*),
      const Request& request, absl::Time deadline) {
    return rpc::Call(*stub_, method, request, deadline);
  }

  const std::unique_ptr<v1::Registry::Stub> stub_;
  Mirror mirror_;
};

// By a Watch of its own: one expert a message, so that any number of experts
// with all their samples comes through.
absl::StatusOr<std::vector<ExpertSpec>> GrpcRegistryClient::ListExperts(
    absl::Time deadline) {
  grpc::ClientContext context;
  SetDeadline(context, deadline);
  const auto reader = stub_->Watch(&context, v1::WatchRequest());
  Snapshot state;
  v1::Change change;
  while (reader->Read(&change) && !change.caught_up()) Apply(change, state);
  const bool complete = change.caught_up();
  context.TryCancel();
  const grpc::Status status = reader->Finish();
  if (!complete) {
    return status.ok() ? Unavailable("the registry ended the list early")
                       : FromGrpc(status);
  }
  SettleStates(state);
  std::vector<ExpertSpec> experts;
  for (const auto& [name, expert] : state.experts) experts.push_back(*expert);
  return experts;
}

absl::StatusOr<ModelRecord> GrpcRegistryClient::ImportModel(
    const std::string& path, const std::string& name,
    const std::string& idempotency_key,
    const std::function<void(int64_t done, int64_t total)>& progress,
    absl::Time deadline) {
  grpc::ClientContext context;
  SetDeadline(context, deadline);
  v1::ImportModelRequest request;
  request.set_path(path);
  request.set_name(name);
  request.set_idempotency_key(idempotency_key);
  const auto reader = stub_->ImportModel(&context, request);
  v1::ImportProgress message;
  std::optional<ModelRecord> model;
  while (reader->Read(&message)) {
    if (progress) progress(message.done_bytes(), message.total_bytes());
    if (message.has_model()) model = FromProto(message.model());
  }
  const grpc::Status status = reader->Finish();
  if (!status.ok()) return FromGrpc(status);
  if (!model.has_value()) {
    return Internal("the import ended without saying what it stored");
  }
  return *model;
}

}  // namespace

absl::Status RemoveDrained(RegistryClient& client, const ExpertSpec& expert,
                           absl::Time deadline) {
  return client.RemoveExpert(
      expert.name, expert.version,
      fmt::format("drained/{}/{}", expert.name, expert.version), deadline);
}

std::unique_ptr<RegistryClient> RegistryClient::Create(
    std::shared_ptr<grpc::Channel> channel) {
  return std::make_unique<GrpcRegistryClient>(std::move(channel));
}

}  // namespace conclave::registry
