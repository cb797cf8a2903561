#include "router_service/journal/journal.h"

#include <rocksdb/db.h>
#include <rocksdb/options.h>
#include <rocksdb/write_batch.h>
#include <sys/statvfs.h>

#include <charconv>
#include <condition_variable>
#include <deque>
#include <filesystem>
#include <map>
#include <mutex>
#include <optional>
#include <system_error>
#include <thread>

#include "router_service/journal/journal_keys.h"

namespace conclave::router {
namespace {

namespace keys = journal_keys;

absl::Status FromRocks(const rocksdb::Status& status, std::string_view what) {
  if (status.ok()) return absl::OkStatus();
  const std::string text = status.ToString();
  if (status.IsCorruption()) return DataLoss("journal: {}: {}", what, text);
  return Unavailable("journal: {}: {}", what, text);
}

std::string_view View(const rocksdb::Slice& slice) {
  return {slice.data(), slice.size()};
}

// A thread that waits for its item to be written.
struct Waiter {
  bool done = false;
  absl::Status status;
};

// One thing to write. With a waiter and no content it is a barrier.
struct Item {
  std::string record_id;
  std::optional<v1::Decision> decision;
  std::optional<v1::Outcome> outcome;
  std::optional<v1::FeedbackRecord> feedback;
  Waiter* waiter = nullptr;
};

// One thread writes; everybody else queues. So a read-modify-write needs no
// transaction, and a synced write carries its neighbours with it.
class RocksJournal final : public Journal {
 public:
  RocksJournal(std::string path, JournalOptions options, Clock* clock)
      : path_(std::move(path)), options_(options), clock_(clock) {}

  ~RocksJournal() override {
    {
      std::lock_guard lock(mutex_);
      closing_ = true;
    }
    wake_.notify_all();
    if (writer_.joinable()) writer_.join();
  }

  absl::Status Start() {
    std::error_code ec;
    std::filesystem::create_directories(path_, ec);
    if (ec) {
      return Unavailable("cannot make the journal's folder {}: {}", path_,
                         ec.message());
    }
    rocksdb::Options options;
    options.create_if_missing = true;
    options.write_buffer_size = size_t{8} << 20;
    options.max_open_files = 64;
    options.keep_log_file_num = 2;
    options.max_log_file_size = size_t{1} << 20;
    rocksdb::DB* db = nullptr;
    RETURN_IF_ERROR(FromRocks(rocksdb::DB::Open(options, path_, &db), "open"));
    db_.reset(db);
    RETURN_IF_ERROR(LoadSequences());
    RETURN_IF_ERROR(LoadAggregates());
    writer_ = std::thread([this] { WriteLoop(); });
    return absl::OkStatus();
  }

  void RecordDecision(v1::Decision decision) override {
    Item item;
    item.record_id = RecordId(decision.tenant(), decision.request_id());
    item.decision = std::move(decision);
    PushOrDrop(std::move(item));
  }

  void RecordOutcome(std::string record_id, v1::Outcome outcome) override {
    Item item;
    item.record_id = std::move(record_id);
    item.outcome = std::move(outcome);
    PushOrDrop(std::move(item));
  }

  absl::Status AddFeedback(const std::string& record_id, double score,
                           std::string comment) override {
    if (!(score >= 0 && score <= 1)) {
      return InvalidArgument("score is {}; it must be 0 (bad) .. 1 (good)",
                             score);
    }
    if (comment.size() > 4096) {
      return InvalidArgument("comment has {} bytes; at most 4096 are kept",
                             comment.size());
    }
    Item item;
    item.record_id = record_id;
    item.feedback.emplace();
    item.feedback->set_score(score);
    item.feedback->set_comment(std::move(comment));
    item.feedback->set_unix_ms(absl::ToUnixMillis(clock_->Now()));
    return PushAndWait(std::move(item));
  }

  absl::StatusOr<v1::ExplainResponse> Explain(
      const std::string& record_id) override {
    RETURN_IF_ERROR(PushAndWait(Item{}));
    v1::ExplainResponse response;
    std::string value;
    ASSIGN_OR_RETURN(const bool decided,
                     Read(keys::Decision(record_id), &value));
    if (!decided) return Unknown(record_id);
    if (!ParseDecision(value, response.mutable_decision())) {
      return DataLoss("journal: decision {} cannot be read", record_id);
    }
    ASSIGN_OR_RETURN(const bool ended, Read(keys::Outcome(record_id), &value));
    if (ended && !response.mutable_outcome()->ParseFromString(value)) {
      return DataLoss("journal: outcome {} cannot be read", record_id);
    }
    ASSIGN_OR_RETURN(const v1::ExplainResponse scores, ReadFeedback(record_id));
    *response.mutable_feedback() = scores.feedback();
    return response;
  }

  FeedbackSummary Feedback(std::string_view category, std::string_view expert,
                           uint64_t expert_version) const override {
    return Find(keys::Aggregate(category, expert, expert_version));
  }
  FeedbackSummary Find(const std::string& key) const {
    std::lock_guard lock(mutex_);
    const auto found = aggregates_.find(key);
    return found == aggregates_.end() ? FeedbackSummary{} : found->second;
  }

  JournalStats Stats() const override {
    std::lock_guard lock(mutex_);
    JournalStats stats = stats_;
    stats.records = next_sequence_ - first_sequence_;
    return stats;
  }

 private:
  static absl::Status Unknown(std::string_view record_id) {
    const size_t tenant_end = record_id.rfind('/');
    return NotFound(
        "no decision is known for request '{}': it was never made here, or is "
        "older than the journal keeps",
        record_id.substr(
            tenant_end == std::string_view::npos ? 0 : tenant_end + 1));
  }

  static bool ParseDecision(std::string_view value, v1::Decision* decision) {
    return value.size() >= 8 &&
           decision->ParseFromArray(value.data() + 8,
                                    static_cast<int>(value.size() - 8));
  }

  absl::StatusOr<bool> Read(const std::string& key, std::string* value) {
    const rocksdb::Status status = db_->Get({}, key, value);
    if (status.IsNotFound()) return false;
    RETURN_IF_ERROR(FromRocks(status, "read"));
    return true;
  }

  absl::StatusOr<v1::ExplainResponse> ReadFeedback(const std::string& id) {
    v1::ExplainResponse scores;
    std::string value;
    ASSIGN_OR_RETURN(const bool found, Read(keys::Feedback(id), &value));
    if (found && !scores.ParseFromString(value)) {
      return DataLoss("journal: feedback of {} cannot be read", id);
    }
    return scores;
  }

  absl::Status LoadSequences() {
    std::unique_ptr<rocksdb::Iterator> it(db_->NewIterator({}));
    it->Seek("s/");
    if (it->Valid() && it->key().starts_with("s/")) {
      const auto first = keys::ReadBigEndian(View(it->key()).substr(2));
      it->SeekForPrev("s/" + std::string(8, '\xff'));
      const auto last = keys::ReadBigEndian(View(it->key()).substr(2));
      if (!first || !last) return DataLoss("journal: a damaged sequence key");
      first_sequence_ = *first;
      next_sequence_ = *last + 1;
    }
    return FromRocks(it->status(), "open");
  }

  absl::Status LoadAggregates() {
    std::unique_ptr<rocksdb::Iterator> it(db_->NewIterator({}));
    for (it->Seek("a/"); it->Valid() && it->key().starts_with("a/");
         it->Next()) {
      const auto summary = keys::DecodeSummary(View(it->value()));
      if (!summary) return DataLoss("journal: a damaged feedback summary");
      aggregates_[it->key().ToString()] = *summary;
    }
    return FromRocks(it->status(), "open");
  }

  void PushOrDrop(Item item) {
    {
      std::lock_guard lock(mutex_);
      if (queue_.size() >= options_.queue_capacity) {
        ++stats_.dropped;
        return;
      }
      queue_.push_back(std::move(item));
    }
    wake_.notify_one();
  }

  // Waiters are as many as calling threads, so they need no bound of their
  // own; a full queue does not keep them out.
  absl::Status PushAndWait(Item item) {
    Waiter waiter;
    item.waiter = &waiter;
    std::unique_lock lock(mutex_);
    queue_.push_back(std::move(item));
    wake_.notify_one();
    written_.wait(lock, [&] { return waiter.done; });
    return std::move(waiter.status);
  }

  void WriteLoop() {
    std::unique_lock lock(mutex_);
    while (true) {
      wake_.wait(lock, [this] { return closing_ || !queue_.empty(); });
      if (queue_.empty()) return;
      std::deque<Item> items;
      items.swap(queue_);
      lock.unlock();
      WriteItems(items);
      lock.lock();
    }
  }

  bool DiskIsLow() const {
    struct statvfs info {};
    if (statvfs(path_.c_str(), &info) != 0) return false;
    return uint64_t{info.f_bavail} * info.f_frsize < options_.min_free_bytes;
  }

  // What one batch changes, before it is written.
  struct Pending {
    rocksdb::WriteBatch batch;
    // Values this batch has put, for reads that follow within it.
    std::map<std::string, std::string> written;
    std::map<std::string, FeedbackSummary> aggregates;
    uint64_t next_sequence = 0;
    uint64_t records = 0;
    bool sync = false;
  };

  void WriteItems(std::deque<Item>& items) {
    const bool low = DiskIsLow();
    Pending pending;
    pending.next_sequence = next_sequence_;
    std::vector<absl::Status> statuses(items.size());
    uint64_t refused = 0;
    for (size_t i = 0; i < items.size(); ++i) {
      Item& item = items[i];
      if (low && (item.decision || item.outcome)) {
        ++refused;
      } else if (low && item.feedback) {
        statuses[i] = ResourceExhausted(
            "the journal's disk is nearly full; free some space and send the "
            "feedback again");
      } else if (item.decision) {
        PutDecision(item, pending);
      } else if (item.outcome) {
        Put(keys::Outcome(item.record_id), item.outcome->SerializeAsString(),
            pending);
        ++pending.records;
      } else if (item.feedback) {
        statuses[i] = PutFeedback(item, pending);
      }
    }
    absl::Status status;
    if (pending.batch.Count() > 0) {
      rocksdb::WriteOptions write;
      write.sync = pending.sync;
      status = FromRocks(db_->Write(write, &pending.batch), "write");
    }
    Publish(items, statuses, status, pending, refused);
    if (status.ok() && !low) Trim();
  }

  void Publish(std::deque<Item>& items, std::vector<absl::Status>& statuses,
               const absl::Status& status, Pending& pending, uint64_t refused) {
    {
      std::lock_guard lock(mutex_);
      stats_.dropped += refused + (status.ok() ? 0 : pending.records);
      if (status.ok()) {
        stats_.written += pending.records;
        next_sequence_ = pending.next_sequence;
        for (auto& [key, summary] : pending.aggregates) {
          aggregates_[key] = summary;
        }
      }
      for (size_t i = 0; i < items.size(); ++i) {
        if (items[i].waiter == nullptr) continue;
        items[i].waiter->status =
            statuses[i].ok() ? status : std::move(statuses[i]);
        items[i].waiter->done = true;
      }
    }
    written_.notify_all();
  }

  static void Put(const std::string& key, std::string value, Pending& pending) {
    pending.batch.Put(key, value);
    pending.written[key] = std::move(value);
  }

  void PutDecision(const Item& item, Pending& pending) {
    const uint64_t sequence = pending.next_sequence++;
    pending.batch.Put(keys::Sequence(sequence), item.record_id);
    pending.batch.Delete(keys::Outcome(item.record_id));
    pending.batch.Delete(keys::Feedback(item.record_id));
    pending.written[keys::Outcome(item.record_id)] = "";
    pending.written[keys::Feedback(item.record_id)] = "";
    Put(keys::Decision(item.record_id),
        keys::BigEndian(sequence) + item.decision->SerializeAsString(),
        pending);
    ++pending.records;
  }

  // As Read, and sees what the batch has put; a deleted key reads as empty.
  absl::StatusOr<std::string> ReadThrough(const std::string& key,
                                          const Pending& pending) {
    const auto found = pending.written.find(key);
    if (found != pending.written.end()) return found->second;
    std::string value;
    ASSIGN_OR_RETURN(const bool exists, Read(key, &value));
    return exists ? value : std::string();
  }

  absl::Status PutFeedback(const Item& item, Pending& pending) {
    const std::string& id = item.record_id;
    ASSIGN_OR_RETURN(const std::string stored,
                     ReadThrough(keys::Decision(id), pending));
    if (stored.empty()) return Unknown(id);
    v1::Decision decision;
    if (!ParseDecision(stored, &decision)) {
      return DataLoss("journal: decision {} cannot be read", id);
    }
    ASSIGN_OR_RETURN(const std::string outcome_bytes,
                     ReadThrough(keys::Outcome(id), pending));
    v1::Outcome outcome;
    outcome.ParseFromString(outcome_bytes);
    ASSIGN_OR_RETURN(const std::string scores_bytes,
                     ReadThrough(keys::Feedback(id), pending));
    v1::ExplainResponse scores;
    scores.ParseFromString(scores_bytes);
    if (scores.feedback_size() >= kMaxFeedbackPerRequest) {
      return ResourceExhausted(
          "request '{}' has {} scores already; no more "
          "are kept",
          id, scores.feedback_size());
    }
    // Who answered is judged, not who was meant to.
    const std::string& expert =
        outcome.expert().empty() ? decision.expert() : outcome.expert();
    AddToAggregate(keys::Aggregate(decision.category(), expert,
                                   VersionOf(decision, expert)),
                   scores, item.feedback->score(), pending);
    *scores.add_feedback() = *item.feedback;
    Put(keys::Feedback(id), scores.SerializeAsString(), pending);
    pending.sync = true;
    return absl::OkStatus();
  }

  static uint64_t VersionOf(const v1::Decision& decision,
                            const std::string& expert) {
    const auto it = decision.versions().find(ExpertVersionKey(expert));
    uint64_t version = 0;
    if (it != decision.versions().end()) {
      std::from_chars(it->second.data(), it->second.data() + it->second.size(),
                      version);
    }
    return version;
  }

  void AddToAggregate(const std::string& key,
                      const v1::ExplainResponse& earlier, double score,
                      Pending& pending) {
    FeedbackSummary summary;
    if (const auto it = pending.aggregates.find(key);
        it != pending.aggregates.end()) {
      summary = it->second;
    } else {
      summary = Find(key);
    }
    if (earlier.feedback_size() > 0) {
      summary.sum -= earlier.feedback(earlier.feedback_size() - 1).score();
    } else {
      ++summary.count;
    }
    summary.sum += score;
    pending.aggregates[key] = summary;
    pending.batch.Put(key, keys::EncodeSummary(summary));
  }

  // Forgets the oldest in steps, so that a write now and then pays a little.
  void Trim() {
    constexpr uint64_t kMostAtOnce = 1024;
    const uint64_t keep = static_cast<uint64_t>(options_.max_records);
    const uint64_t held = next_sequence_ - first_sequence_;
    if (held <= keep) return;
    const uint64_t surplus = std::min(held - keep, kMostAtOnce);
    rocksdb::WriteBatch batch;
    std::string id;
    std::string value;
    for (uint64_t s = first_sequence_; s < first_sequence_ + surplus; ++s) {
      const absl::StatusOr<bool> found = Read(keys::Sequence(s), &id);
      if (!found.ok() || !*found) continue;
      batch.Delete(keys::Sequence(s));
      // A later decision may have taken over the id.
      const absl::StatusOr<bool> decided = Read(keys::Decision(id), &value);
      if (!decided.ok() || !*decided || keys::ReadBigEndian(value) != s) {
        continue;
      }
      batch.Delete(keys::Decision(id));
      batch.Delete(keys::Outcome(id));
      batch.Delete(keys::Feedback(id));
    }
    if (!db_->Write({}, &batch).ok()) return;
    std::lock_guard lock(mutex_);
    first_sequence_ += surplus;
  }

  const std::string path_;
  const JournalOptions options_;
  Clock* const clock_;
  std::unique_ptr<rocksdb::DB> db_;

  mutable std::mutex mutex_;
  std::condition_variable wake_;
  std::condition_variable written_;
  std::deque<Item> queue_;
  bool closing_ = false;
  JournalStats stats_;
  // Written under the lock by the writer alone, which reads them without.
  uint64_t first_sequence_ = 1;
  uint64_t next_sequence_ = 1;
  std::map<std::string, FeedbackSummary, std::less<>> aggregates_;

  std::thread writer_;
};

}  // namespace

std::string RecordId(std::string_view tenant, std::string_view request_id) {
  if (tenant.empty()) return std::string(request_id);
  return fmt::format("{}/{}", tenant, request_id);
}

std::string ExpertVersionKey(std::string_view expert) {
  return "expert " + std::string(expert);
}

absl::StatusOr<std::unique_ptr<Journal>> Journal::Open(const std::string& path,
                                                       JournalOptions options,
                                                       Clock* clock) {
  auto journal = std::make_unique<RocksJournal>(path, options, clock);
  RETURN_IF_ERROR(journal->Start());
  return std::unique_ptr<Journal>(std::move(journal));
}

}  // namespace conclave::router
