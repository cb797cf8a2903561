// Unary calls use gRPC's synchronous threads, because a mutation waits for the
// disk and an import for minutes: on the callback threads, which all channels
// of the process share, that would stop every token stream. Watch is a
// callback stream, because a watcher waits for ever.
#include "registry/service.h"

#include <grpcpp/grpcpp.h>

#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <thread>
#include <variant>

#include "base/rpc/server.h"
#include "base/rpc/status.h"
#include "conclave/v1/registry.grpc.pb.h"
#include "registry/codec.h"
#include "registry/rules.h"

namespace conclave::registry {
namespace {

using rpc::ToGrpc;

int64_t NowMs() { return absl::ToUnixMillis(absl::Now()); }

// A change with its value, as small as it can wait: the expert is shared with
// the snapshot.
struct QueuedChange {
  uint64_t revision = 0;
  ChangeEvent::Kind kind = ChangeEvent::Kind::kExpert;
  std::string name;
  // monostate: removed.
  std::variant<std::monostate, std::shared_ptr<const ExpertSpec>, ModelRecord,
               AliasRecord, WorkerRecord>
      value;
};

template <typename Map>
QueuedChange Pick(const ChangeEvent& event, const Map& map) {
  QueuedChange change{event.revision, event.kind, event.name, {}};
  const auto found = map.find(event.name);
  if (found != map.end()) change.value = found->second;
  return change;
}

QueuedChange Pick(const ChangeEvent& event, const Snapshot& state) {
  switch (event.kind) {
    case ChangeEvent::Kind::kExpert:
      return Pick(event, state.experts);
    case ChangeEvent::Kind::kModel:
      return Pick(event, state.models);
    case ChangeEvent::Kind::kAlias:
      return Pick(event, state.aliases);
    case ChangeEvent::Kind::kWorker:
      return Pick(event, state.workers);
  }
  return {};
}

v1::Change ToProto(const QueuedChange& change) {
  v1::Change message;
  message.set_revision(change.revision);
  const bool removed = std::holds_alternative<std::monostate>(change.value);
  switch (change.kind) {
    case ChangeEvent::Kind::kExpert:
      if (removed) {
        message.set_removed_expert(change.name);
      } else {
        *message.mutable_expert() =
            ToProto(*std::get<std::shared_ptr<const ExpertSpec>>(change.value));
      }
      break;
    case ChangeEvent::Kind::kModel:
      if (removed) {
        message.set_removed_model(change.name);
      } else {
        *message.mutable_model() = ToProto(std::get<ModelRecord>(change.value));
      }
      break;
    case ChangeEvent::Kind::kAlias:
      if (removed) {
        message.set_removed_alias(change.name);
      } else {
        *message.mutable_alias() =
            ToProto(change.name, std::get<AliasRecord>(change.value));
      }
      break;
    case ChangeEvent::Kind::kWorker:
      if (removed) {
        message.set_removed_worker(change.name);
      } else {
        *message.mutable_worker() =
            ToProto(std::get<WorkerRecord>(change.value), NowMs());
      }
      break;
  }
  return message;
}

// Everything in a state, models first: an expert never arrives before what it
// stands on.
std::deque<QueuedChange> Everything(const Snapshot& state) {
  std::deque<QueuedChange> all;
  const auto add = [&](ChangeEvent::Kind kind, const auto& map) {
    for (const auto& [name, value] : map) {
      all.push_back({state.revision, kind, name, value});
    }
  };
  add(ChangeEvent::Kind::kModel, state.models);
  add(ChangeEvent::Kind::kWorker, state.workers);
  add(ChangeEvent::Kind::kExpert, state.experts);
  add(ChangeEvent::Kind::kAlias, state.aliases);
  return all;
}

class WatchStream;

// The watches in progress, so that they can be ended.
class WatchList {
 public:
  void Add(WatchStream* stream);
  void Remove(WatchStream* stream);
  void Stop();

 private:
  std::mutex mutex_;  // taken before a stream's
  bool stopping_ = false;
  std::set<WatchStream*> streams_;
};

// One watcher: the state, `caught_up`, then changes as they come. Deletes
// itself when the call is over.
class WatchStream final : public grpc::ServerWriteReactor<v1::Change> {
 public:
  WatchStream(Registry* registry, uint64_t after_revision, size_t max_backlog,
              WatchList* list)
      : max_backlog_(max_backlog), list_(list) {
    // Registered before the state is read: what comes in between is queued,
    // and what the state already holds is passed over by revision.
    handle_ = registry->Watch(
        [this](const ChangeEvent& event,
               std::shared_ptr<const Snapshot> state) { Add(event, *state); });
    const auto state = registry->snapshot();
    std::lock_guard lock(mutex_);
    started_ = true;
    if (after_revision != 0 && after_revision != state->revision) {
      FinishLocked(absl::Status(
          absl::StatusCode::kOutOfRange,
          fmt::format("changes after revision {} are no longer held; the "
                      "state is at {}: watch from 0",
                      after_revision, state->revision)));
      return;
    }
    start_revision_ = state->revision;
    if (after_revision == 0) initial_ = Everything(*state);
    PumpLocked();
  }

  void OnWriteDone(bool ok) override {
    std::lock_guard lock(mutex_);
    writing_ = false;
    if (!ok) wanted_end_ = absl::OkStatus();
    PumpLocked();
  }
  void OnCancel() override {
    std::lock_guard lock(mutex_);
    FinishLocked(absl::CancelledError("the watcher left"));
  }
  void OnDone() override {
    list_->Remove(this);
    handle_.reset();  // Without the lock: a change may be on its way in.
    delete this;
  }
  void Stop() {
    std::lock_guard lock(mutex_);
    FinishLocked(absl::UnavailableError("the registry is stopping"));
  }

 private:
  void Add(const ChangeEvent& event, const Snapshot& state) {
    std::lock_guard lock(mutex_);
    if (finished_) return;
    if (queue_.size() >= max_backlog_) {
      queue_.clear();
      FinishLocked(absl::ResourceExhaustedError(
          "the watcher reads too slowly; watch again from 0"));
      return;
    }
    queue_.push_back(Pick(event, state));
    PumpLocked();
  }

  // Starts the next write, if there is something to say and nothing being
  // said.
  void PumpLocked() {
    if (!started_ || finished_ || writing_) return;
    if (wanted_end_.has_value()) {
      finished_ = true;
      Finish(ToGrpc(*wanted_end_));
      return;
    }
    while (initial_.empty() && caught_up_sent_ && !queue_.empty() &&
           queue_.front().revision <= start_revision_) {
      queue_.pop_front();
    }
    if (!initial_.empty()) {
      message_ = ToProto(initial_.front());
      initial_.pop_front();
    } else if (!caught_up_sent_) {
      message_.Clear();
      message_.set_revision(start_revision_);
      message_.set_caught_up(true);
      caught_up_sent_ = true;
    } else if (!queue_.empty()) {
      message_ = ToProto(queue_.front());
      queue_.pop_front();
    } else {
      return;
    }
    writing_ = true;
    StartWrite(&message_);
  }

  // Ends the call once the write in flight is over.
  void FinishLocked(absl::Status status) {
    if (finished_ || wanted_end_.has_value()) return;
    wanted_end_ = std::move(status);
    PumpLocked();
  }

  const size_t max_backlog_;
  WatchList* const list_;
  std::mutex mutex_;
  std::deque<QueuedChange> initial_;
  std::deque<QueuedChange> queue_;
  uint64_t start_revision_ = 0;
  bool started_ = false;  // the state has been read
  bool caught_up_sent_ = false;
  bool writing_ = false;
  bool finished_ = false;
  std::optional<absl::Status> wanted_end_;
  v1::Change message_;
  std::unique_ptr<WatchHandle> handle_;
};

void WatchList::Add(WatchStream* stream) {
  std::lock_guard lock(mutex_);
  streams_.insert(stream);
  if (stopping_) stream->Stop();
}
void WatchList::Remove(WatchStream* stream) {
  std::lock_guard lock(mutex_);
  streams_.erase(stream);
}
void WatchList::Stop() {
  std::lock_guard lock(mutex_);
  stopping_ = true;
  for (WatchStream* stream : streams_) stream->Stop();
}

// Calls ExpireLeases now and then.
class LeaseKeeper {
 public:
  LeaseKeeper(Registry* registry, absl::Duration interval)
      : thread_([this, registry, interval] {
          std::unique_lock lock(mutex_);
          while (!wake_.wait_for(lock, absl::ToChronoNanoseconds(interval),
                                 [this] { return stop_; })) {
            registry->ExpireLeases();
          }
        }) {}
  ~LeaseKeeper() {
    {
      std::lock_guard lock(mutex_);
      stop_ = true;
    }
    wake_.notify_all();
    thread_.join();
  }

 private:
  std::mutex mutex_;
  std::condition_variable wake_;
  bool stop_ = false;
  std::thread thread_;
};

using Base = v1::Registry::WithCallbackMethod_Watch<v1::Registry::Service>;

class RegistryService final : public Base, public rpc::StopsStreams {
 public:
  RegistryService(Registry* registry, ModelAdmin* models,
                  const RegistryServiceOptions& options)
      : registry_(registry),
        models_(models),
        options_(options),
        keeper_(registry, options.expiry_interval) {}

  grpc::Status RegisterExpert(grpc::ServerContext*,
                              const v1::RegisterExpertRequest* request,
                              v1::Expert* response) override {
    return Answer(registry_->RegisterExpert(FromProto(request->expert()),
                                            request->idempotency_key()),
                  response);
  }
  grpc::Status DrainExpert(grpc::ServerContext*,
                           const v1::ExpertRequest* request,
                           v1::Expert* response) override {
    return Answer(
        registry_->DrainExpert(request->name(), request->expected_version(),
                               request->idempotency_key()),
        response);
  }
  grpc::Status RemoveExpert(grpc::ServerContext*,
                            const v1::ExpertRequest* request,
                            v1::RemoveResponse*) override {
    return ToGrpc(registry_->RemoveExpert(request->name(),
                                          request->expected_version(),
                                          request->idempotency_key()));
  }
  grpc::Status GetExpert(grpc::ServerContext*, const v1::GetRequest* request,
                         v1::Expert* response) override {
    const auto found = FindExpert(*registry_->snapshot(), request->name());
    if (!found.ok()) return ToGrpc(found.status());
    *response = ToProto(**found);
    return grpc::Status::OK;
  }
  grpc::Status ListExperts(grpc::ServerContext*, const v1::ListRequest*,
                           v1::ListExpertsResponse* response) override {
    const auto state = registry_->snapshot();
    response->set_revision(state->revision);
    for (const auto& [name, expert] : state->experts) {
      ExpertSpec slim = *expert;
      slim.samples.clear();
      slim.prompt.clear();
      *response->add_experts() = ToProto(slim);
    }
    return grpc::Status::OK;
  }

  grpc::Status ImportModel(
      grpc::ServerContext* context, const v1::ImportModelRequest* request,
      grpc::ServerWriter<v1::ImportProgress>* writer) override;
  grpc::Status ListModels(grpc::ServerContext*, const v1::ListRequest*,
                          v1::ListModelsResponse* response) override {
    const auto state = registry_->snapshot();
    for (const auto& [name, model] : state->models) {
      *response->add_models() = ToProto(model);
    }
    return grpc::Status::OK;
  }
  grpc::Status GetModel(grpc::ServerContext*, const v1::GetRequest* request,
                        v1::Model* response) override {
    return Answer(FindModel(*registry_->snapshot(), request->name()), response);
  }
  grpc::Status RemoveModel(grpc::ServerContext*,
                           const v1::ModelRequest* request,
                           v1::RemoveResponse*) override;

  grpc::Status ListCategories(grpc::ServerContext*, const v1::ListRequest*,
                              v1::ListCategoriesResponse* response) override;
  grpc::Status SetAlias(grpc::ServerContext*,
                        const v1::SetAliasRequest* request,
                        v1::Alias* response) override {
    const v1::Alias& alias = request->alias();
    const auto set = registry_->SetAlias(alias.name(), alias.target(),
                                         request->expected_version(),
                                         request->idempotency_key());
    if (set.ok()) *response = ToProto(alias.name(), *set);
    return ToGrpc(set.status());
  }
  grpc::Status RemoveAlias(grpc::ServerContext*,
                           const v1::AliasRequest* request,
                           v1::RemoveResponse*) override {
    return ToGrpc(registry_->RemoveAlias(request->name(),
                                         request->expected_version(),
                                         request->idempotency_key()));
  }

  grpc::ServerWriteReactor<v1::Change>* Watch(
      grpc::CallbackServerContext*, const v1::WatchRequest* request) override {
    auto* stream = new WatchStream(registry_, request->after_revision(),
                                   options_.max_watch_backlog, &watches_);
    watches_.Add(stream);
    return stream;
  }
  void StopStreams() override { watches_.Stop(); }

  grpc::Status JoinWorker(grpc::ServerContext*,
                          const v1::JoinWorkerRequest* request,
                          v1::JoinWorkerResponse* response) override {
    const auto worker = registry_->JoinWorker(
        request->name(), request->address(),
        {request->models().begin(), request->models().end()},
        options_.worker_lease);
    if (!worker.ok()) return ToGrpc(worker.status());
    response->set_epoch(worker->epoch);
    response->set_lease_ms(LeaseMs());
    return grpc::Status::OK;
  }
  grpc::Status HeartbeatWorker(grpc::ServerContext*,
                               const v1::HeartbeatWorkerRequest* request,
                               v1::HeartbeatWorkerResponse* response) override {
    const auto worker = registry_->HeartbeatWorker(
        request->name(), request->epoch(),
        {request->models().begin(), request->models().end()},
        options_.worker_lease);
    response->set_lease_ms(LeaseMs());
    return ToGrpc(worker.status());
  }
  grpc::Status LeaveWorker(grpc::ServerContext*,
                           const v1::LeaveWorkerRequest* request,
                           v1::RemoveResponse*) override {
    return ToGrpc(registry_->LeaveWorker(request->name(), request->epoch()));
  }
  grpc::Status ListWorkers(grpc::ServerContext*, const v1::ListRequest*,
                           v1::ListWorkersResponse* response) override {
    const auto state = registry_->snapshot();
    for (const auto& [name, worker] : state->workers) {
      *response->add_workers() = ToProto(worker, NowMs());
    }
    return grpc::Status::OK;
  }

 private:
  class ImportTurn;

  template <typename Value, typename Message>
  static grpc::Status Answer(const absl::StatusOr<Value>& value,
                             Message* response) {
    if (value.ok()) *response = ToProto(*value);
    return ToGrpc(value.status());
  }
  // CANCELLED once nobody waits for the answer: the caller left, its deadline
  // has passed, or the server stops.
  static absl::Status CheckCaller(grpc::ServerContext* context) {
    return context->IsCancelled() ? Cancelled("nobody waits for the import")
                                  : absl::OkStatus();
  }
  int64_t LeaseMs() const {
    return absl::ToInt64Milliseconds(options_.worker_lease);
  }

  Registry* const registry_;
  ModelAdmin* const models_;
  const RegistryServiceOptions options_;
  WatchList watches_;
  std::mutex import_mutex_;
  std::condition_variable import_over_;
  bool importing_ = false;  // under import_mutex_
  LeaseKeeper keeper_;
};

// Imports run one at a time, here and in the store: who waits here may leave.
class RegistryService::ImportTurn {
 public:
  explicit ImportTurn(RegistryService* service) : service_(service) {}
  ~ImportTurn() {
    if (!mine_) return;
    {
      std::lock_guard lock(service_->import_mutex_);
      service_->importing_ = false;
    }
    service_->import_over_.notify_one();
  }
  absl::Status Take(grpc::ServerContext* context) {
    std::unique_lock lock(service_->import_mutex_);
    while (!service_->import_over_.wait_for(
        lock, std::chrono::milliseconds(50),
        [this] { return !service_->importing_; })) {
      RETURN_IF_ERROR(CheckCaller(context));
    }
    service_->importing_ = true;
    mine_ = true;
    return absl::OkStatus();
  }

 private:
  RegistryService* const service_;
  bool mine_ = false;
};

grpc::Status RegistryService::ImportModel(
    grpc::ServerContext* context, const v1::ImportModelRequest* request,
    grpc::ServerWriter<v1::ImportProgress>* writer) {
  if (models_ == nullptr) {
    return ToGrpc(Unimplemented("this registry holds no models"));
  }
  ImportTurn turn(this);
  if (const absl::Status taken = turn.Take(context); !taken.ok()) {
    return ToGrpc(taken);
  }
  // A bar that moves twenty times a second is smooth; more is traffic.
  absl::Time last = absl::InfinitePast();
  const auto progress = [&](int64_t done, int64_t total) {
    RETURN_IF_ERROR(CheckCaller(context));
    const absl::Time now = absl::Now();
    if (now - last < absl::Milliseconds(50)) return absl::OkStatus();
    last = now;
    v1::ImportProgress message;
    message.set_done_bytes(done);
    message.set_total_bytes(total);
    writer->Write(message);
    return absl::OkStatus();
  };
  // In its turn: whoever came with the same key before has its answer now.
  const ImportCall call{.path = request->path(),
                        .name = request->name(),
                        .idempotency_key = request->idempotency_key()};
  const auto before = registry_->FindImport(call);
  if (!before.ok()) return ToGrpc(before.status());
  std::optional<ModelRecord> model = *before;
  if (!model.has_value()) {
    auto imported = models_->Import(call.path, call.name, progress);
    if (!imported.ok()) return ToGrpc(imported.status());
    model = *std::move(imported);
    const absl::Status put = registry_->PutModel(*model, call);
    if (!put.ok()) return ToGrpc(put);
  }
  v1::ImportProgress last_message;
  last_message.set_done_bytes(model->bytes);
  last_message.set_total_bytes(model->bytes);
  *last_message.mutable_model() = ToProto(*model);
  writer->Write(last_message);
  return grpc::Status::OK;
}

grpc::Status RegistryService::RemoveModel(grpc::ServerContext*,
                                          const v1::ModelRequest* request,
                                          v1::RemoveResponse*) {
  const auto model = FindModel(*registry_->snapshot(), request->name());
  absl::Status removed = registry_->RemoveModel(
      request->name(), request->expected_version(), request->idempotency_key());
  // A call made again after the name was given to another model: that one
  // stays.
  const bool gone = !registry_->snapshot()->models.contains(request->name());
  if (removed.ok() && gone && model.ok() && models_ != nullptr) {
    removed = models_->Remove(request->name());
    // The store still has it: so does the registry.
    if (!removed.ok() && removed.code() != absl::StatusCode::kNotFound) {
      (void)registry_->PutModel(*model);
    } else {
      removed = absl::OkStatus();
    }
  }
  return ToGrpc(removed);
}

grpc::Status RegistryService::ListCategories(
    grpc::ServerContext*, const v1::ListRequest*,
    v1::ListCategoriesResponse* response) {
  const auto state = registry_->snapshot();
  std::map<std::string, v1::Category> categories;
  for (const auto& [name, expert] : state->experts) {
    if (expert->state == ExpertState::kDraining) continue;
    for (const std::string& category : expert->categories) {
      v1::Category& entry = categories[category];
      entry.set_name(category);
      entry.add_experts(name);
    }
    // A sample without a category is one of the expert's first.
    for (const Sample& sample : expert->samples) {
      v1::Category& entry =
          categories[sample.category.empty() ? expert->categories.front()
                                             : sample.category];
      entry.set_samples(entry.samples() + 1);
    }
  }
  for (auto& [name, category] : categories) {
    *response->add_categories() = std::move(category);
  }
  return grpc::Status::OK;
}

}  // namespace

std::unique_ptr<grpc::Service> MakeRegistryService(
    Registry* registry, ModelAdmin* models,
    const RegistryServiceOptions& options) {
  return std::make_unique<RegistryService>(registry, models, options);
}

}  // namespace conclave::registry
