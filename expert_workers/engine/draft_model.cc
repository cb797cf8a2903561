#include "expert_workers/engine/draft_model.h"

#include <algorithm>

#include "base/check.h"
#include "base/clock.h"

namespace conclave::engine {
namespace {

// Tokens it reads between two steps of the large model: what it has to catch
// up with is spread, so that nobody's answer halts.
constexpr int64_t kReadAtOnce = 32;

// With less to read than that it would guess at random.
constexpr int64_t kLeastWindow = 8;

int64_t CacheBytes(const KvShape& shape, int64_t window, int64_t max_guesses) {
  return DraftModel::kMaxAnswers *
         PagesForTokens(2 * window + max_guesses + 1) * shape.PageBytes();
}

}  // namespace

DraftModel::DraftModel(std::unique_ptr<weights::ModelLease> lease,
                       std::unique_ptr<LanguageModel> model,
                       const KvShape& shape, int64_t window,
                       int64_t max_guesses, int64_t vocab_size)
    : lease_(std::move(lease)),
      model_(std::move(model)),
      vocab_size_(vocab_size),
      window_(window),
      max_guesses_(max_guesses),
      cache_(shape, CacheBytes(shape, window, max_guesses)) {}

absl::Status DraftModel::CheckVocabulary(const weights::ModelManifest& own,
                                         const weights::ModelManifest& target) {
  const std::vector<std::string>& mine = own.spec.tokenizer.tokens;
  const std::vector<std::string>& other = target.spec.tokenizer.tokens;
  const size_t common = std::min(mine.size(), other.size());
  size_t same = 0;
  while (same < common && mine[same] == other[same]) ++same;
  if (common > 0 && same == common) return absl::OkStatus();
  return InvalidArgument(
      "the draft model has another vocabulary: it differs at token {}", same);
}

absl::StatusOr<std::unique_ptr<DraftModel>> DraftModel::Create(
    std::unique_ptr<weights::ModelLease> lease,
    const weights::ModelManifest& target, const kernels::Ops& ops,
    kernels::KvType kv_type, int64_t max_guesses) {
  RETURN_IF_ERROR(CheckVocabulary(lease->manifest(), target));
  const size_t common = std::min(lease->manifest().spec.tokenizer.tokens.size(),
                                 target.spec.tokenizer.tokens.size());
  ASSIGN_OR_RETURN(std::unique_ptr<LanguageModel> model,
                   LanguageModel::Create(*lease, ops));
  const KvShape shape = model->kv_shape(kv_type);
  const int64_t context = lease->manifest().spec.hyperparameters.max_context;
  const int64_t window = std::min(kWindow, (context - max_guesses - 1) / 2);
  if (window < kLeastWindow) {
    return InvalidArgument(
        "the draft model's context of {} tokens is too short to guess {} in",
        context, max_guesses);
  }
  const int64_t vocab =
      std::min(model->vocab_size(), static_cast<int64_t>(common));
  return std::unique_ptr<DraftModel>(new DraftModel(
      std::move(lease), std::move(model), shape, window, max_guesses, vocab));
}

void DraftModel::Forget(const std::pair<uint64_t, int32_t>& answer) {
  const auto found = memories_.find(answer);
  if (found == memories_.end()) return;
  cache_.Release(found->second.pages);
  memories_.erase(found);
}

DraftModel::Memory& DraftModel::MemoryOf(
    const std::pair<uint64_t, int32_t>& answer) {
  const auto found = memories_.find(answer);
  if (found == memories_.end() &&
      static_cast<int64_t>(memories_.size()) == kMaxAnswers) {
    Forget(std::ranges::min_element(memories_, {}, [](const auto& entry) {
             return entry.second.used;
           })->first);
  }
  Memory& memory = memories_[answer];
  memory.used = ++uses_;
  return memory;
}

void DraftModel::Follow(Memory& memory, std::span<const int32_t> tokens) {
  const auto size = static_cast<int64_t>(tokens.size());
  if (memory.tokens.empty() || size < memory.start ||
      size - memory.start > 2 * window_) {
    cache_.Release(memory.pages);
    const uint64_t used = memory.used;
    memory = Memory();
    memory.used = used;
    memory.start = std::max<int64_t>(size - window_, 0);
  }
  const auto now = tokens.subspan(static_cast<size_t>(memory.start));
  const auto same = std::mismatch(memory.tokens.begin(), memory.tokens.end(),
                                  now.begin(), now.end())
                        .second -
                    now.begin();
  // The last token is computed again if need be: its logits are wanted.
  memory.computed = std::min({memory.computed, static_cast<int64_t>(same),
                              static_cast<int64_t>(now.size()) - 1});
  memory.tokens.assign(now.begin(), now.end());
}

int64_t DraftModel::Step(std::span<Memory* const> memories, int64_t most,
                         Compute* compute) {
  Batch batch;
  std::vector<Memory*> ending;
  for (Memory* memory : memories) {
    const auto size = static_cast<int64_t>(memory->tokens.size());
    const int64_t count = std::min(most, size - memory->computed);
    CHECK(cache_.PrepareWrite(memory->pages, memory->computed, count));
    const auto first_row = static_cast<int64_t>(batch.tokens.size());
    const auto begin = memory->tokens.begin() + memory->computed;
    batch.tokens.insert(batch.tokens.end(), begin, begin + count);
    batch.sequences.push_back(
        {first_row, count, memory->computed, &memory->pages});
    memory->computed += count;
    if (memory->computed == size) {
      batch.logit_rows.push_back(first_row + count - 1);
      ending.push_back(memory);
    }
  }
  Compute::Turn turn(compute);
  StepContext step;
  step.compute = compute;
  step.between_layers = [&turn] {
    turn.Yield();
    return false;
  };
  CHECK(model_->Forward(batch, cache_, step));
  const auto width = static_cast<size_t>(model_->vocab_size());
  logits_.resize(ending.size() * width);
  if (!ending.empty()) {
    model_->Logits(0, static_cast<int64_t>(ending.size()), compute,
                   logits_.data());
  }
  for (size_t i = 0; i < ending.size(); ++i) {
    const float* row = logits_.data() + i * width;
    ending[i]->tokens.push_back(
        static_cast<int32_t>(std::max_element(row, row + vocab_size_) - row));
  }
  return static_cast<int64_t>(batch.tokens.size());
}

// A vocabulary may be padded further in the larger model, and a caller's prompt
// hold any of its ids.
bool DraftModel::CanRead(std::span<const int32_t> tokens) const {
  return std::ranges::all_of(
      tokens, [this](int32_t token) { return token < model_->vocab_size(); });
}

void DraftModel::Draft(std::span<DraftWish> wishes, Compute* compute) {
  CHECK(static_cast<int64_t>(wishes.size()) <= kMaxAnswers, "{} wishes",
        wishes.size());
  // All are marked before any makes room, so that none makes it for another.
  for (const DraftWish& wish : wishes) {
    const auto found = memories_.find(wish.answer);
    if (found != memories_.end()) found->second.used = ++uses_;
  }
  std::vector<Memory*> asking;
  std::vector<DraftWish*> asked;  // beside `asking`
  for (DraftWish& wish : wishes) {
    wish.guesses.clear();
    wish.count = std::min(wish.count, max_guesses_);
    if (wish.count < 1 || wish.tokens.empty()) continue;
    Memory& memory = MemoryOf(wish.answer);
    Follow(memory, wish.tokens);
    if (!CanRead(memory.tokens)) {
      Forget(wish.answer);
      continue;
    }
    asking.push_back(&memory);
    asked.push_back(&wish);
  }
  if (asking.empty()) return;
  const auto wanted = [&](size_t i) {
    const Memory& memory = *asking[i];
    const auto given = static_cast<int64_t>(asked[i]->tokens.size());
    const int64_t guessed =
        static_cast<int64_t>(memory.tokens.size()) + memory.start - given;
    return guessed < asked[i]->count;
  };
  // Who is still behind after the first step reads on another time.
  Step(asking, kReadAtOnce, compute);
  for (;;) {
    std::vector<Memory*> going;
    for (size_t i = 0; i < asking.size(); ++i) {
      const Memory& memory = *asking[i];
      const bool has_read =
          memory.computed + 1 == static_cast<int64_t>(memory.tokens.size()) &&
          static_cast<int64_t>(memory.tokens.size()) + memory.start >
              static_cast<int64_t>(asked[i]->tokens.size());
      if (has_read && wanted(i)) going.push_back(asking[i]);
    }
    if (going.empty()) break;
    Clock& clock = Clock::Real();
    const int64_t start = clock.MonotonicNanos();
    const int64_t rows = Step(going, 1, compute);
    step_time_.Observe(rows, absl::Nanoseconds(clock.MonotonicNanos() - start));
  }
  for (size_t i = 0; i < asking.size(); ++i) {
    const Memory& memory = *asking[i];
    const auto given =
        static_cast<int64_t>(asked[i]->tokens.size()) - memory.start;
    if (given < static_cast<int64_t>(memory.tokens.size())) {
      asked[i]->guesses.assign(memory.tokens.begin() + given,
                               memory.tokens.end());
    }
  }
}

}  // namespace conclave::engine
