// What the router decided, what came of it, and what people thought of it.
//
// Feedback is durable when acknowledged: its write is synced, together with
// every decision and outcome queued before it. Decisions and outcomes alone
// are written behind the request's back, many to a batch and without a sync:
// they survive kill -9 once written (microseconds to milliseconds after the
// call), not a power cut. When the queue is full, or the disk nearly so, they
// are dropped and counted: an answer never waits for its own record.
//
// One vote a request: a second score for the same request is kept in the
// record, and replaces the first in the estimates.
//
// A record's id is RecordId() of the request: ids are a tenant's own.
//
// Threads: all methods may run concurrently.
#ifndef CONCLAVE_ROUTER_SERVICE_JOURNAL_JOURNAL_H_
#define CONCLAVE_ROUTER_SERVICE_JOURNAL_JOURNAL_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/status.h"
#include "conclave/v1/common.pb.h"
#include "conclave/v1/router.pb.h"

namespace conclave::router {

struct JournalOptions {
  // Older decisions are forgotten, with their outcomes and feedback. What
  // feedback taught about (category, expert) stays.
  int64_t max_records = 1'000'000;
  // Decisions and outcomes waiting to be written: about 4 KiB each, so 32 MiB.
  size_t queue_capacity = 8192;
  // Below this nothing is written: RocksDB must never meet a full disk.
  uint64_t min_free_bytes = uint64_t{64} << 20;
};

// Scores given to one version of an expert, in one category.
struct FeedbackSummary {
  int64_t count = 0;
  double sum = 0;
  friend bool operator==(const FeedbackSummary&,
                         const FeedbackSummary&) = default;
};

struct JournalStats {
  uint64_t written = 0;  // decisions and outcomes
  uint64_t dropped = 0;  // the queue or the disk was full
  uint64_t records = 0;  // decisions that can be explained
};

// At most this many scores are kept of one request; the next is refused.
inline constexpr int kMaxFeedbackPerRequest = 16;

class Journal {
 public:
  // Makes `path` when absent.
  //   UNAVAILABLE  another process has it open, or the disk refuses
  //   DATA_LOSS    what is stored cannot be read
  static absl::StatusOr<std::unique_ptr<Journal>> Open(
      const std::string& path, JournalOptions options,
      Clock* clock = &Clock::Real());
  // Writes what is queued.
  virtual ~Journal() = default;

  // Under its tenant's and request's id. A second decision of the same id
  // replaces the first, with its outcome and feedback.
  virtual void RecordDecision(v1::Decision decision) = 0;
  virtual void RecordOutcome(std::string record_id, v1::Outcome outcome) = 0;

  // Blocks until the score is on disk.
  //   INVALID_ARGUMENT    score outside 0..1, or a comment over 4096 bytes
  //   NOT_FOUND           no such decision, or forgotten
  //   RESOURCE_EXHAUSTED  too many scores, or the disk is nearly full
  virtual absl::Status AddFeedback(const std::string& record_id, double score,
                                   std::string comment) = 0;

  // Sees everything recorded before the call. NOT_FOUND as AddFeedback.
  virtual absl::StatusOr<v1::ExplainResponse> Explain(
      const std::string& record_id) = 0;

  // Nothing is (0, 0). A short lock; never touches the disk. The version is
  // the one that the decision notes under versions["expert NAME"]; 0 without.
  virtual FeedbackSummary Feedback(std::string_view category,
                                   std::string_view expert,
                                   uint64_t expert_version) const = 0;

  virtual JournalStats Stats() const = 0;
};

// Neither part holds a '/', so that no two requests share a record.
std::string RecordId(std::string_view tenant, std::string_view request_id);

// The key in Decision.versions under which an expert's version is noted.
std::string ExpertVersionKey(std::string_view expert);

}  // namespace conclave::router

#endif  // CONCLAVE_ROUTER_SERVICE_JOURNAL_JOURNAL_H_
