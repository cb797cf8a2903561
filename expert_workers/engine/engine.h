// One model, running: continuous batching over a paged KV cache.
//
// A request enters with token ids and leaves as events, delivered in order on
// the engine's own thread; a sink must not block. Same request, same bits,
// whatever runs beside it.
//
//   Submit -> waiting -> prefill (in chunks) -> decode -> finished
//                 \________ Cancel, deadline ________/
//
// Threads: all methods may run concurrently.
#ifndef CONCLAVE_EXPERT_WORKERS_ENGINE_ENGINE_H_
#define CONCLAVE_EXPERT_WORKERS_ENGINE_ENGINE_H_

#include <absl/time/time.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "expert_workers/engine/compute.h"
#include "expert_workers/engine/prefix_cache_stats.h"
#include "expert_workers/engine/sampling_params.h"
#include "expert_workers/engine/token_event.h"
#include "expert_workers/tokenizer/tokenizer.h"
#include "expert_workers/weights/ram_tier.h"

namespace conclave::engine {

struct EngineRequest {
  std::string request_id;
  // Whose it is: shares of the engine are by tenant, and so is what the prefix
  // cache remembers.
  std::string tenant;
  std::vector<int32_t> prompt;  // not empty; ids below vocab_size
  SamplingParams sampling;
  absl::Time deadline = absl::InfiniteFuture();
};

enum class FinishReason : uint8_t {
  kNone,
  kStop,       // end-of-turn token or stop string
  kLength,     // max_tokens or context
  kCancelled,  // Cancel()
  kError,      // status says what
};

// What happened to one of a request's n answers.
struct EngineEvent {
  int32_t index = 0;  // which answer, [0, n)
  // New text, whole UTF-8 characters, never part of a stop string.
  std::string text;
  // Generated since the last event; without the end-of-turn token, which is
  // counted all the same.
  std::vector<TokenEvent> tokens;
  std::vector<TokenEvent> prompt_tokens;  // first event, if asked for
  FinishReason finish = FinishReason::kNone;
  absl::Status status;  // not OK only with kError
  int64_t prompt_token_count = 0;
  int64_t cached_token_count = 0;  // prompt tokens that were not computed
  int64_t output_token_count = 0;  // of this answer so far
};

// Called in order; after every answer has finished, never again.
using EventSink = std::function<void(const EngineEvent&)>;

struct EngineOptions {
  int64_t kv_budget_bytes = int64_t{512} << 20;
  int32_t max_batch = 16;       // sequences running together
  int64_t max_context = 0;      // 0: the model's own
  int32_t prefill_chunk = 256;  // most prompt tokens in a step
  // Fewer of them where measured time says so (step_pacer.h), and fewer guesses
  // (speculation.h). Without, always as many as may be; of prompt tokens, an
  // eighth while other sequences generate.
  bool paced = true;
  bool prefix_cache = true;
  // Most tokens of an answer that a step guesses ahead and checks
  // (speculation.h, draft_model.h). Bits do not depend on it. 0: never.
  int32_t max_draft = 8;
  int32_t max_waiting = 256;    // further requests get RESOURCE_EXHAUSTED
  bool reference_path = false;  // the fp32 oracle, slow
  // The fast path's instruction set: "" (the best there is), "scalar", "avx2",
  // "avx512". Bits do not depend on it.
  std::string isa = {};
};

struct EngineStats {
  int64_t running = 0;
  int64_t waiting = 0;
  int64_t kv_pages_used = 0;  // by running sequences
  int64_t kv_pages_total = 0;
  bool has_draft_model = false;
  PrefixCacheStats prefix;
  int64_t prompt_tokens = 0;  // computed; counters since start
  int64_t generated_tokens = 0;
  int64_t draft_tokens = 0;     // guessed ahead
  int64_t accepted_tokens = 0;  // of these, right
  int64_t finished_requests = 0;
  int64_t cancelled_requests = 0;
  int64_t preemptions = 0;
  weights::ExpertCacheStats experts;  // all zero: they are in memory

  // Adds the counters of another engine, which may be gone.
  void AddCounters(const EngineStats& other) {
    prefix.lookups += other.prefix.lookups;
    prefix.hits += other.prefix.hits;
    prefix.tokens_wanted += other.prefix.tokens_wanted;
    prefix.tokens_saved += other.prefix.tokens_saved;
    prefix.evicted_pages += other.prefix.evicted_pages;
    prompt_tokens += other.prompt_tokens;
    generated_tokens += other.generated_tokens;
    draft_tokens += other.draft_tokens;
    accepted_tokens += other.accepted_tokens;
    finished_requests += other.finished_requests;
    cancelled_requests += other.cancelled_requests;
    preemptions += other.preemptions;
    experts.hits += other.experts.hits;
    experts.reads += other.experts.reads;
    experts.evictions += other.experts.evictions;
    experts.read_nanos += other.experts.read_nanos;
  }
};

class Engine {
 public:
  // Takes the lease: the weights stay while the engine lives. `compute` is
  // shared by all engines of the process and outlives them. `draft` is null or
  // a smaller model of the same vocabulary, which guesses where that is
  // faster; its cache is part of the KV budget, and where that does not hold
  // both its lease is given back and the engine goes without.
  //   UNIMPLEMENTED     no family runs this architecture
  //   INVALID_ARGUMENT  an option; a tensor that is missing or misshapen; a
  //                     draft model of another vocabulary
  static absl::StatusOr<std::unique_ptr<Engine>> Create(
      std::unique_ptr<weights::ModelLease> lease,
      std::shared_ptr<const Tokenizer> tokenizer, Compute* compute,
      EngineOptions options,
      std::unique_ptr<weights::ModelLease> draft = nullptr);
  // Cancels what runs, delivers the last events, joins.
  virtual ~Engine() = default;

  // Returns a ticket for Cancel.
  //   INVALID_ARGUMENT    a parameter; or prompt (+ max_tokens) longer than
  //                       the context: "context_length_exceeded: ..." with
  //                       both numbers
  //   RESOURCE_EXHAUSTED  the queue is full; or "kv_budget_exceeded: ...":
  //                       the KV budget cannot hold the request even alone,
  //                       with the arithmetic
  virtual absl::StatusOr<uint64_t> Submit(EngineRequest request,
                                          EventSink sink) = 0;
  // The request's answers finish with kCancelled at the next step; one that
  // computes its prompt is given up within the step. Unknown tickets are
  // ignored: the request may just have ended.
  virtual void Cancel(uint64_t ticket) = 0;

  virtual EngineStats Stats() const = 0;
  virtual int64_t max_context() const = 0;
};

}  // namespace conclave::engine

#endif  // CONCLAVE_EXPERT_WORKERS_ENGINE_ENGINE_H_
