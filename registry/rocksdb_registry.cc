#include "registry/rocksdb_registry.h"

#include <algorithm>
#include <charconv>
#include <mutex>

#include "registry/codec.h"
#include "registry/durable_map.h"
#include "registry/expert_state.h"
#include "registry/idempotency.h"
#include "registry/limits.h"
#include "registry/rules.h"
#include "registry/text.h"

namespace conclave::registry {
namespace {

// Keys on disk: one letter, '/', name. Meta values are decimal numbers.
constexpr char kExpertPrefix = 'e';
constexpr char kModelPrefix = 'm';
constexpr char kAliasPrefix = 'a';
constexpr char kWorkerPrefix = 'w';
constexpr char kCallPrefix = 'i';  // 20 digits of sequence
constexpr std::string_view kRevisionKey = "meta/revision";
constexpr std::string_view kEpochKey = "meta/epoch";
constexpr std::string_view kFormatKey = "meta/format";
constexpr std::string_view kFormat = "1";

std::string Key(char prefix, std::string_view name) {
  std::string key{prefix, '/'};
  return key += name;
}
std::string CallKey(uint64_t sequence) {
  return Key(kCallPrefix, fmt::format("{:020}", sequence));
}

absl::StatusOr<uint64_t> ParseNumber(std::string_view text) {
  uint64_t number = 0;
  const auto [end, error] =
      std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) {
    return DataLoss("\"{}\" is not a number", Shown(text));
  }
  return number;
}

// "expert\nversion"; without a version as they were stored before there was
// one.
std::string EncodeAlias(const AliasRecord& record) {
  return fmt::format("{}\n{}", record.expert, record.version);
}

absl::StatusOr<AliasRecord> DecodeAlias(std::string_view bytes) {
  const size_t end = bytes.find('\n');
  AliasRecord record{.expert = std::string(bytes.substr(0, end)), .version = 1};
  if (end != std::string_view::npos) {
    ASSIGN_OR_RETURN(record.version, ParseNumber(bytes.substr(end + 1)));
  }
  return record;
}

absl::StatusOr<ModelRecord> DecodeModel(const std::string& bytes) {
  v1::Model message;
  if (!message.ParseFromString(bytes)) {
    return DataLoss("a remembered answer is damaged");
  }
  return FromProto(message);
}

CallId IdOf(const ImportCall& call) {
  return MakeCallId(call.idempotency_key, "ImportModel",
                    fmt::format("{}\n{}", call.name, call.path));
}

// Samples and prompt never change, so a remembered answer goes without them:
// ten thousand answers stay small.
std::string EncodeAnswer(const ExpertSpec& spec) {
  ExpertSpec slim = spec;
  slim.samples.clear();
  slim.prompt.clear();
  return ToProto(slim).SerializeAsString();
}

absl::StatusOr<ExpertSpec> DecodeAnswer(const std::string& bytes,
                                        const ExpertSpec* full) {
  v1::Expert message;
  if (!message.ParseFromString(bytes)) {
    return DataLoss("a remembered answer is damaged");
  }
  ExpertSpec spec = FromProto(message);
  if (full != nullptr) {
    spec.samples = full->samples;
    spec.prompt = full->prompt;
  }
  return spec;
}

// One mutation under construction: the next state and what makes it durable.
struct Transaction {
  Snapshot next;
  std::vector<ChangeEvent> events;
  std::vector<DurableMap::Write> writes;

  explicit Transaction(const Snapshot& current) : next(current) {}

  void PutExpert(std::shared_ptr<const ExpertSpec> spec) {
    Record(ChangeEvent::Kind::kExpert, spec->name, kExpertPrefix,
           ToProto(*spec).SerializeAsString());
    next.experts[spec->name] = std::move(spec);
  }
  void RemoveExpert(const std::string& name) {
    next.experts.erase(name);
    Record(ChangeEvent::Kind::kExpert, name, kExpertPrefix, std::nullopt);
  }
  void PutModel(const ModelRecord& model) {
    next.models[model.name] = model;
    Record(ChangeEvent::Kind::kModel, model.name, kModelPrefix,
           ToProto(model).SerializeAsString());
  }
  void RemoveModel(const std::string& name) {
    next.models.erase(name);
    Record(ChangeEvent::Kind::kModel, name, kModelPrefix, std::nullopt);
  }
  void SetAlias(const std::string& alias, const AliasRecord& record) {
    next.aliases[alias] = record;
    Record(ChangeEvent::Kind::kAlias, alias, kAliasPrefix, EncodeAlias(record));
  }
  void RemoveAlias(const std::string& alias) {
    next.aliases.erase(alias);
    Record(ChangeEvent::Kind::kAlias, alias, kAliasPrefix, std::nullopt);
  }
  // On disk a worker's lease_ms is its whole lease, not what is left.
  void PutWorker(const WorkerRecord& worker, absl::Duration lease) {
    next.workers[worker.name] = worker;
    v1::Worker stored = ToProto(worker, 0);
    stored.set_lease_ms(absl::ToInt64Milliseconds(lease));
    Record(ChangeEvent::Kind::kWorker, worker.name, kWorkerPrefix,
           stored.SerializeAsString());
  }
  void RemoveWorker(const std::string& name) {
    next.workers.erase(name);
    Record(ChangeEvent::Kind::kWorker, name, kWorkerPrefix, std::nullopt);
  }

 private:
  void Record(ChangeEvent::Kind kind, const std::string& name, char prefix,
              std::optional<std::string> value) {
    events.push_back({++next.revision, kind, name, !value.has_value()});
    writes.push_back({Key(prefix, name), std::move(value)});
  }
};

class RocksDbRegistry final : public Registry {
 public:
  RocksDbRegistry(const RocksDbRegistryOptions& options,
                  std::unique_ptr<DurableMap> map)
      : clock_(options.clock),
        map_(std::move(map)),
        calls_(options.max_idempotency_keys),
        snapshot_(std::make_shared<const Snapshot>()) {}

  absl::Status Load();

  std::shared_ptr<const Snapshot> snapshot() const override {
    return std::atomic_load(&snapshot_);
  }
  std::unique_ptr<WatchHandle> Watch(Watcher watcher) override;

  absl::StatusOr<ExpertSpec> RegisterExpert(ExpertSpec spec,
                                            std::string_view key) override;
  absl::StatusOr<ExpertSpec> DrainExpert(std::string_view name,
                                         uint64_t expected_version,
                                         std::string_view key) override;
  absl::Status RemoveExpert(std::string_view name, uint64_t expected_version,
                            std::string_view key) override;
  absl::StatusOr<std::optional<ModelRecord>> FindImport(
      const ImportCall& call) override;
  absl::Status PutModel(ModelRecord model, const ImportCall& call) override;
  absl::Status RemoveModel(std::string_view name,
                           std::string_view expected_version,
                           std::string_view key) override;
  absl::StatusOr<AliasRecord> SetAlias(std::string_view alias,
                                       std::string_view expert,
                                       uint64_t expected_version,
                                       std::string_view key) override;
  absl::Status RemoveAlias(std::string_view alias, uint64_t expected_version,
                           std::string_view key) override;
  absl::StatusOr<WorkerRecord> JoinWorker(std::string_view name,
                                          std::string_view address,
                                          std::vector<std::string> models,
                                          absl::Duration lease) override;
  absl::StatusOr<WorkerRecord> HeartbeatWorker(std::string_view name,
                                               uint64_t epoch,
                                               std::vector<std::string> models,
                                               absl::Duration lease) override;
  absl::Status LeaveWorker(std::string_view name, uint64_t epoch) override;
  void ExpireLeases() override;

 private:
  class Handle;

  // The rest of a call whose answer is nothing but "done", or known before.
  template <typename Mutate>
  absl::Status Simple(const CallId& call, const Mutate& mutate,
                      std::string answer = "");
  absl::Status LoadOne(std::string_view key, std::string_view value,
                       Snapshot& state);
  // Makes the transaction durable, visible, and known to the watchers.
  absl::Status Commit(Transaction transaction, const CallId& call,
                      std::string answer);
  int64_t NowMs() const { return absl::ToUnixMillis(clock_->Now()); }
  WorkerRecord Renew(WorkerRecord worker, absl::Duration lease);

  Clock* const clock_;
  // Taken in this order. `write_mutex_` is held over a synchronous write:
  // readers never take it.
  std::mutex write_mutex_;
  std::mutex watch_mutex_;

  // Under write_mutex_.
  const std::unique_ptr<DurableMap> map_;
  IdempotencyTable calls_;
  uint64_t epoch_ = 0;
  // Worker -> when its lease ends, by the clock that never goes back.
  std::map<std::string, int64_t> lease_ends_nanos_;

  std::map<uint64_t, Watcher> watchers_;  // under watch_mutex_
  uint64_t next_watcher_ = 0;

  std::shared_ptr<const Snapshot> snapshot_;  // std::atomic_load/store only
};

class RocksDbRegistry::Handle final : public WatchHandle {
 public:
  Handle(RocksDbRegistry* registry, uint64_t id)
      : registry_(registry), id_(id) {}
  ~Handle() override {
    std::lock_guard lock(registry_->watch_mutex_);
    registry_->watchers_.erase(id_);
  }

 private:
  RocksDbRegistry* const registry_;
  const uint64_t id_;
};

std::unique_ptr<WatchHandle> RocksDbRegistry::Watch(Watcher watcher) {
  std::lock_guard lock(watch_mutex_);
  watchers_[++next_watcher_] = std::move(watcher);
  return std::make_unique<Handle>(this, next_watcher_);
}

absl::Status RocksDbRegistry::LoadOne(std::string_view key,
                                      std::string_view value, Snapshot& state) {
  const std::string bytes(value);
  if (key == kFormatKey) {
    if (value == kFormat) return absl::OkStatus();
    return FailedPrecondition(
        "the registry is of format {}, this program knows {}; use the program "
        "that wrote it",
        Shown(value), kFormat);
  }
  if (key == kRevisionKey) {
    ASSIGN_OR_RETURN(state.revision, ParseNumber(value));
    return absl::OkStatus();
  }
  if (key == kEpochKey) {
    ASSIGN_OR_RETURN(epoch_, ParseNumber(value));
    return absl::OkStatus();
  }
  const absl::Status damaged = DataLoss("{} is not readable", Shown(key));
  if (key.size() < 3 || key[1] != '/') return damaged;
  const std::string name(key.substr(2));
  switch (key[0]) {
    case kExpertPrefix: {
      v1::Expert message;
      if (!message.ParseFromString(bytes)) return damaged;
      state.experts[name] =
          std::make_shared<const ExpertSpec>(FromProto(message));
      return absl::OkStatus();
    }
    case kModelPrefix: {
      v1::Model message;
      if (!message.ParseFromString(bytes)) return damaged;
      state.models[name] = FromProto(message);
      return absl::OkStatus();
    }
    case kAliasPrefix: {
      ASSIGN_OR_RETURN(state.aliases[name], DecodeAlias(value));
      return absl::OkStatus();
    }
    case kWorkerPrefix: {
      v1::Worker message;
      if (!message.ParseFromString(bytes)) return damaged;
      const absl::Duration lease = std::clamp(
          absl::Milliseconds(message.lease_ms()), kMinLease, kMaxLease);
      state.workers[name] = Renew(FromProto(message, 0), lease);
      return absl::OkStatus();
    }
    case kCallPrefix: {
      ASSIGN_OR_RETURN(const uint64_t sequence, ParseNumber(name));
      ASSIGN_OR_RETURN(RememberedCall call, DecodeCall(value));
      calls_.Add(sequence, std::move(call));
      return absl::OkStatus();
    }
    default:
      return damaged;
  }
}

absl::Status RocksDbRegistry::Load() {
  std::lock_guard lock(write_mutex_);
  Snapshot state;
  bool empty = true;
  RETURN_IF_ERROR(
      map_->ForEach([&](std::string_view key, std::string_view value) {
        empty = false;
        return LoadOne(key, value, state);
      }));
  // An empty registry is written to as well: a directory that cannot be
  // written is found out now and not at the first registration.
  if (empty) {
    RETURN_IF_ERROR(
        map_->Apply({{std::string(kFormatKey), std::string(kFormat)}}));
  }
  SettleStates(state);
  std::atomic_store(&snapshot_,
                    std::make_shared<const Snapshot>(std::move(state)));
  return absl::OkStatus();
}

absl::Status RocksDbRegistry::Commit(Transaction transaction,
                                     const CallId& call, std::string answer) {
  // Who can answer now; the disk need not know.
  for (std::string& name : SettleStates(transaction.next)) {
    transaction.events.push_back({++transaction.next.revision,
                                  ChangeEvent::Kind::kExpert, std::move(name),
                                  /*removed=*/false});
  }
  std::vector<DurableMap::Write>& writes = transaction.writes;
  writes.push_back(
      {std::string(kRevisionKey), std::to_string(transaction.next.revision)});
  const uint64_t sequence = calls_.next_sequence();
  RememberedCall remembered{call, std::move(answer)};
  if (!call.key.empty()) {
    writes.push_back({CallKey(sequence), Encode(remembered)});
    if (const auto oldest = calls_.Oldest()) {
      writes.push_back({CallKey(*oldest), std::nullopt});
    }
  }
  RETURN_IF_ERROR(map_->Apply(writes));
  if (!call.key.empty()) calls_.Add(sequence, std::move(remembered));

  const auto published =
      std::make_shared<const Snapshot>(std::move(transaction.next));
  std::atomic_store(&snapshot_, published);
  std::lock_guard lock(watch_mutex_);
  for (const ChangeEvent& event : transaction.events) {
    for (const auto& [id, watcher] : watchers_) watcher(event, published);
  }
  return absl::OkStatus();
}

absl::StatusOr<ExpertSpec> RocksDbRegistry::RegisterExpert(
    ExpertSpec spec, std::string_view key) {
  RETURN_IF_ERROR(CheckIdempotencyKey(key));
  // The caller does not choose these.
  spec.state = ExpertState::kServing;
  spec.version = 0;
  spec.created_unix_ms = 0;
  RETURN_IF_ERROR(CheckExpertSpec(spec));
  const CallId call =
      MakeCallId(key, "RegisterExpert", ToProto(spec).SerializeAsString());

  std::lock_guard lock(write_mutex_);
  ASSIGN_OR_RETURN(const auto before, calls_.Find(call));
  if (before.has_value()) return DecodeAnswer(*before, &spec);
  const auto state = snapshot();
  RETURN_IF_ERROR(CheckRegister(*state, spec));
  spec.version = state->revision + 1;
  spec.created_unix_ms = NowMs();
  Transaction transaction(*state);
  transaction.PutExpert(std::make_shared<const ExpertSpec>(spec));
  SettleStates(transaction.next);
  spec.state = transaction.next.experts.at(spec.name)->state;
  RETURN_IF_ERROR(Commit(std::move(transaction), call, EncodeAnswer(spec)));
  return spec;
}

absl::StatusOr<ExpertSpec> RocksDbRegistry::DrainExpert(
    std::string_view name, uint64_t expected_version, std::string_view key) {
  RETURN_IF_ERROR(CheckIdempotencyKey(key));
  const CallId call = MakeCallId(key, "DrainExpert",
                                 fmt::format("{}\n{}", expected_version, name));

  std::lock_guard lock(write_mutex_);
  const auto state = snapshot();
  ASSIGN_OR_RETURN(const auto before, calls_.Find(call));
  if (before.has_value()) {
    const auto found = state->experts.find(std::string(name));
    return DecodeAnswer(
        *before, found == state->experts.end() ? nullptr : found->second.get());
  }
  ASSIGN_OR_RETURN(const auto current, FindExpert(*state, name));
  RETURN_IF_ERROR(CheckVersion(*current, expected_version));
  if (current->state == ExpertState::kDraining) return *current;
  RETURN_IF_ERROR(CheckRetire(*state, *current));
  ExpertSpec spec = *current;
  spec.state = ExpertState::kDraining;
  spec.version = state->revision + 1;
  Transaction transaction(*state);
  transaction.PutExpert(std::make_shared<const ExpertSpec>(spec));
  RETURN_IF_ERROR(Commit(std::move(transaction), call, EncodeAnswer(spec)));
  return spec;
}

template <typename Mutate>
absl::Status RocksDbRegistry::Simple(const CallId& call, const Mutate& mutate,
                                     std::string answer) {
  RETURN_IF_ERROR(CheckIdempotencyKey(call.key));
  std::lock_guard lock(write_mutex_);
  ASSIGN_OR_RETURN(const auto before, calls_.Find(call));
  if (before.has_value()) return absl::OkStatus();
  const auto state = snapshot();
  Transaction transaction(*state);
  RETURN_IF_ERROR(mutate(*state, transaction));
  if (transaction.writes.empty() && call.key.empty()) return absl::OkStatus();
  return Commit(std::move(transaction), call, std::move(answer));
}

absl::Status RocksDbRegistry::RemoveExpert(std::string_view name,
                                           uint64_t expected_version,
                                           std::string_view key) {
  const CallId call = MakeCallId(key, "RemoveExpert",
                                 fmt::format("{}\n{}", expected_version, name));
  return Simple(call, [&](const Snapshot& state, Transaction& transaction) {
    ASSIGN_OR_RETURN(const auto current, FindExpert(state, name));
    RETURN_IF_ERROR(CheckVersion(*current, expected_version));
    RETURN_IF_ERROR(CheckRetire(state, *current));
    transaction.RemoveExpert(current->name);
    return absl::OkStatus();
  });
}

absl::StatusOr<std::optional<ModelRecord>> RocksDbRegistry::FindImport(
    const ImportCall& call) {
  RETURN_IF_ERROR(CheckIdempotencyKey(call.idempotency_key));
  std::lock_guard lock(write_mutex_);
  ASSIGN_OR_RETURN(const auto before, calls_.Find(IdOf(call)));
  if (!before.has_value()) return std::nullopt;
  ASSIGN_OR_RETURN(ModelRecord model, DecodeModel(*before));
  return model;
}

absl::Status RocksDbRegistry::PutModel(ModelRecord model,
                                       const ImportCall& call) {
  return Simple(
      IdOf(call),
      [&](const Snapshot& state, Transaction& transaction) {
        RETURN_IF_ERROR(CheckModel(state, model));
        const auto found = state.models.find(model.name);
        if (found == state.models.end() || found->second != model) {
          transaction.PutModel(model);
        }
        return absl::OkStatus();
      },
      ToProto(model).SerializeAsString());
}

absl::Status RocksDbRegistry::RemoveModel(std::string_view name,
                                          std::string_view expected_version,
                                          std::string_view key) {
  const CallId call = MakeCallId(key, "RemoveModel",
                                 fmt::format("{}\n{}", expected_version, name));
  return Simple(call, [&](const Snapshot& state, Transaction& transaction) {
    RETURN_IF_ERROR(CheckRemoveModel(state, name, expected_version));
    transaction.RemoveModel(std::string(name));
    return absl::OkStatus();
  });
}

absl::StatusOr<AliasRecord> RocksDbRegistry::SetAlias(std::string_view alias,
                                                      std::string_view expert,
                                                      uint64_t expected_version,
                                                      std::string_view key) {
  RETURN_IF_ERROR(CheckIdempotencyKey(key));
  const CallId call =
      MakeCallId(key, "SetAlias",
                 fmt::format("{}\n{}\n{}", expected_version, alias, expert));

  std::lock_guard lock(write_mutex_);
  ASSIGN_OR_RETURN(const auto before, calls_.Find(call));
  if (before.has_value()) return DecodeAlias(*before);
  const auto state = snapshot();
  RETURN_IF_ERROR(CheckSetAlias(*state, alias, expert, expected_version));
  const AliasRecord record{.expert = std::string(expert),
                           .version = state->revision + 1};
  Transaction transaction(*state);
  transaction.SetAlias(std::string(alias), record);
  RETURN_IF_ERROR(Commit(std::move(transaction), call, EncodeAlias(record)));
  return record;
}

absl::Status RocksDbRegistry::RemoveAlias(std::string_view alias,
                                          uint64_t expected_version,
                                          std::string_view key) {
  const CallId call = MakeCallId(
      key, "RemoveAlias", fmt::format("{}\n{}", expected_version, alias));
  return Simple(call, [&](const Snapshot& state, Transaction& transaction) {
    RETURN_IF_ERROR(CheckRemoveAlias(state, alias, expected_version));
    transaction.RemoveAlias(std::string(alias));
    return absl::OkStatus();
  });
}

// Gives `worker` a lease from now on.
WorkerRecord RocksDbRegistry::Renew(WorkerRecord worker, absl::Duration lease) {
  worker.lease_expires_unix_ms = NowMs() + absl::ToInt64Milliseconds(lease);
  lease_ends_nanos_[worker.name] =
      clock_->MonotonicNanos() + absl::ToInt64Nanoseconds(lease);
  return worker;
}

absl::StatusOr<WorkerRecord> RocksDbRegistry::JoinWorker(
    std::string_view name, std::string_view address,
    std::vector<std::string> models, absl::Duration lease) {
  RETURN_IF_ERROR(CheckWorker(name, address, models, lease));
  std::lock_guard lock(write_mutex_);
  const auto state = snapshot();
  if (!state->workers.contains(std::string(name)) &&
      state->workers.size() >= kMaxWorkers) {
    return ResourceExhausted("{} workers have joined, which is the limit",
                             state->workers.size());
  }
  WorkerRecord worker;
  worker.name = name;
  worker.address = address;
  worker.epoch = epoch_ + 1;
  worker.models = std::move(models);
  worker.lease_expires_unix_ms = NowMs() + absl::ToInt64Milliseconds(lease);
  Transaction transaction(*state);
  transaction.PutWorker(worker, lease);
  transaction.writes.push_back(
      {std::string(kEpochKey), std::to_string(worker.epoch)});
  RETURN_IF_ERROR(Commit(std::move(transaction), {}, ""));
  epoch_ = worker.epoch;
  return Renew(std::move(worker), lease);
}

absl::StatusOr<WorkerRecord> RocksDbRegistry::HeartbeatWorker(
    std::string_view name, uint64_t epoch, std::vector<std::string> models,
    absl::Duration lease) {
  RETURN_IF_ERROR(CheckWorker(name, "", models, lease));
  std::lock_guard lock(write_mutex_);
  const auto state = snapshot();
  const auto found = state->workers.find(std::string(name));
  if (found == state->workers.end() ||
      lease_ends_nanos_[found->first] <= clock_->MonotonicNanos()) {
    return NotFound("worker \"{}\" holds no lease: it ran out; join again",
                    name);
  }
  if (found->second.epoch != epoch) {
    return Aborted(
        "worker \"{}\" joined again since, with epoch {}: epoch {} is stale",
        name, found->second.epoch, epoch);
  }
  if (found->second.models == models) {
    // Nothing but the lease: readers see its new end, nothing is stored.
    WorkerRecord worker = Renew(found->second, lease);
    Snapshot next = *state;
    next.workers[worker.name] = worker;
    std::atomic_store(&snapshot_,
                      std::make_shared<const Snapshot>(std::move(next)));
    return worker;
  }
  WorkerRecord worker = found->second;
  worker.models = std::move(models);
  worker.lease_expires_unix_ms = NowMs() + absl::ToInt64Milliseconds(lease);
  Transaction transaction(*state);
  transaction.PutWorker(worker, lease);
  RETURN_IF_ERROR(Commit(std::move(transaction), {}, ""));
  return Renew(std::move(worker), lease);
}

absl::Status RocksDbRegistry::LeaveWorker(std::string_view name,
                                          uint64_t epoch) {
  std::lock_guard lock(write_mutex_);
  const auto state = snapshot();
  const auto found = state->workers.find(std::string(name));
  if (found == state->workers.end()) return absl::OkStatus();
  if (found->second.epoch != epoch) {
    return Aborted(
        "worker \"{}\" joined again since, with epoch {}: epoch {} is stale",
        name, found->second.epoch, epoch);
  }
  Transaction transaction(*state);
  transaction.RemoveWorker(found->first);
  RETURN_IF_ERROR(Commit(std::move(transaction), {}, ""));
  lease_ends_nanos_.erase(std::string(name));
  return absl::OkStatus();
}

void RocksDbRegistry::ExpireLeases() {
  std::lock_guard lock(write_mutex_);
  const int64_t now = clock_->MonotonicNanos();
  const auto state = snapshot();
  std::vector<std::string> ended;
  for (const auto& [name, worker] : state->workers) {
    if (lease_ends_nanos_[name] <= now) ended.push_back(name);
  }
  if (ended.empty()) return;
  Transaction transaction(*state);
  for (const std::string& name : ended) transaction.RemoveWorker(name);
  // On a disk error the workers stay, and the next call tries again.
  if (!Commit(std::move(transaction), {}, "").ok()) return;
  for (const std::string& name : ended) lease_ends_nanos_.erase(name);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Registry>> OpenRocksDbRegistry(
    const RocksDbRegistryOptions& options) {
  ASSIGN_OR_RETURN(auto map, DurableMap::Open(options.path));
  auto registry = std::make_unique<RocksDbRegistry>(options, std::move(map));
  if (const absl::Status loaded = registry->Load(); !loaded.ok()) {
    return Annotate(loaded, options.path);
  }
  return std::unique_ptr<Registry>(std::move(registry));
}

}  // namespace conclave::registry
