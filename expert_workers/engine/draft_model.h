// A smaller model of the same vocabulary guesses a larger one's next tokens
// ("speculative decoding": Leviathan, Kalman, Matias, ICML 2023). Its guesses
// are its most probable tokens; the larger model checks them in one step and
// chooses as it would have without (speculation.h).
//
// It reads the last tokens alone, at positions of their own: reading a prompt
// of thousands would cost more than its guesses save. It keeps what it has
// computed of the answers that asked last, up to where a guess was wrong.
//
// Threads: none; the engine's own, and the compute team's inside Draft.
#ifndef CONCLAVE_EXPERT_WORKERS_ENGINE_DRAFT_MODEL_H_
#define CONCLAVE_EXPERT_WORKERS_ENGINE_DRAFT_MODEL_H_

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "base/status.h"
#include "expert_workers/engine/compute.h"
#include "expert_workers/engine/forward/language_model.h"
#include "expert_workers/engine/kv_cache.h"
#include "expert_workers/engine/step_time.h"
#include "expert_workers/weights/ram_tier.h"

namespace conclave::engine {

// What one answer would like guessed.
struct DraftWish {
  std::pair<uint64_t, int32_t> answer;  // Sequence::key()
  std::span<const int32_t> tokens;      // its prompt, and what it said so far
  int64_t count = 0;                    // guesses wanted, at least 1
  // Out: `count` tokens (the model's most, if that is less), or none while the
  // model still reads.
  // None either where it lacks one of `tokens`.
  std::vector<int32_t> guesses = {};
};

class DraftModel {
 public:
  // Answers at the same time. Beside more than a few, a step's pass over the
  // weights is shared already.
  static constexpr int64_t kMaxAnswers = 4;
  // It reads from kWindow to twice as many tokens of an answer, fewer where its
  // own context is shorter.
  static constexpr int64_t kWindow = 256;

  // Whether `own` may guess for `target`: INVALID_ARGUMENT when its tokens are
  // others. One of the two may have more, at the end.
  static absl::Status CheckVocabulary(const weights::ModelManifest& own,
                                      const weights::ModelManifest& target);

  // Takes the lease. `max_guesses`: the most a wish may ask for.
  //   INVALID_ARGUMENT  its tokens are not those of `target`; it is no
  //                     language model; its context is too short to guess in
  static absl::StatusOr<std::unique_ptr<DraftModel>> Create(
      std::unique_ptr<weights::ModelLease> lease,
      const weights::ModelManifest& target, const kernels::Ops& ops,
      kernels::KvType kv_type, int64_t max_guesses);

  // Bytes of its KV cache, taken as they are used.
  int64_t kv_bytes() const { return cache_.budget_bytes(); }

  // Fills the wishes' guesses, all answers together; at most kMaxAnswers. What
  // it has computed of others is kept, the kMaxAnswers that asked last: an
  // answer that has looked its guesses up for a while need not be read again.
  void Draft(std::span<DraftWish> wishes, Compute* compute);
  // Drops what is kept of an answer; unknown ones are ignored.
  void Forget(const std::pair<uint64_t, int32_t>& answer);

  // What a step of one row for each of `answers` takes.
  const StepTime& step_time() const { return step_time_; }

 private:
  struct Memory {
    int64_t start = 0;            // the answer's token that is first here
    std::vector<int32_t> tokens;  // from there on, guesses included
    int64_t computed = 0;
    uint64_t used = 0;  // when it last asked, by uses_
    PageTable pages;
  };

  DraftModel(std::unique_ptr<weights::ModelLease> lease,
             std::unique_ptr<LanguageModel> model, const KvShape& shape,
             int64_t window, int64_t max_guesses, int64_t vocab_size);

  // Whether it has an embedding of every one.
  bool CanRead(std::span<const int32_t> tokens) const;
  // The answer's memory; the one that asked longest ago makes room, and none
  // that asks now.
  Memory& MemoryOf(const std::pair<uint64_t, int32_t>& answer);
  // Makes the memory one of `tokens`, keeping what is still true.
  void Follow(Memory& memory, std::span<const int32_t> tokens);
  // Computes up to `most` tokens of each memory; whose end is reached gets one
  // token more, the most probable. Returns the rows computed.
  int64_t Step(std::span<Memory* const> memories, int64_t most,
               Compute* compute);

  const std::unique_ptr<weights::ModelLease> lease_;
  const std::unique_ptr<LanguageModel> model_;
  const int64_t vocab_size_;  // tokens that both models have
  const int64_t window_;      // kWindow, or less
  const int64_t max_guesses_;
  KvCache cache_;
  std::map<std::pair<uint64_t, int32_t>, Memory> memories_;
  uint64_t uses_ = 0;
  std::vector<float> logits_;
  StepTime step_time_;
};

}  // namespace conclave::engine

#endif  // CONCLAVE_EXPERT_WORKERS_ENGINE_DRAFT_MODEL_H_
