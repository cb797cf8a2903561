#include "expert_workers/engine/speculation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "expert_workers/engine/draft_model.h"
#include "expert_workers/engine/engine.h"
#include "expert_workers/engine/run_requests.h"
#include "expert_workers/engine/tiny_model.h"

namespace conclave::engine {
namespace {

using Tokens = std::vector<int32_t>;

TEST(LookUpTest, WhatFollowedTheEndBefore) {
  EXPECT_EQ(LookUp(Tokens{1, 2, 3, 7, 8, 9, 1, 2, 3}, 2), (Tokens{7, 8}));
  // Past what is known, it repeats.
  EXPECT_EQ(LookUp(Tokens{1, 2, 3, 7, 1, 2, 3}, 6), (Tokens{7, 1, 2, 3, 7, 1}));
}

TEST(LookUpTest, TheLongestMatchWinsThenTheLatest) {
  EXPECT_EQ(LookUp(Tokens{4, 1, 2, 3, 7, 5, 1, 2, 3, 8, 4, 1, 2, 3}, 1),
            (Tokens{7}));
  EXPECT_EQ(LookUp(Tokens{5, 1, 2, 3, 7, 5, 1, 2, 3, 8, 5, 1, 2, 3}, 1),
            (Tokens{8}));
}

TEST(LookUpTest, NothingWithoutAMatchOfThree) {
  EXPECT_TRUE(LookUp(Tokens{1, 2, 3, 4, 9, 2, 3}, 4).empty());
  EXPECT_TRUE(LookUp(Tokens{1, 2, 3, 7, 1, 2, 3}, 0).empty());
  EXPECT_TRUE(LookUp(Tokens{1, 2, 3, 7, 1, 2, 3}, -1).empty());
  for (size_t n = 0; n <= 3; ++n) EXPECT_TRUE(LookUp(Tokens(n, 1), 4).empty());
  EXPECT_EQ(LookUp(Tokens(4, 1), 4), Tokens(4, 1));
}

// time(rows) = base + slope rows, in microseconds.
void Teach(Speculator& speculator, int64_t base, int64_t slope) {
  for (int64_t i = 0; i < 50; ++i) {
    const int64_t rows = 1 + i % 5;
    speculator.Observe(rows, absl::Microseconds(base + slope * rows));
  }
}

TEST(SpeculatorTest, GuessesAsManyAsAreWorthTheirTime) {
  const Tokens tokens(100, 1);
  const auto count = [&](const Speculator& s, const Acceptance& a,
                         int64_t generating, int64_t limit) {
    return s.Draft(tokens, a, generating, limit).size();
  };
  Acceptance good;
  Acceptance bad;
  for (int i = 0; i < 30; ++i) {
    good.Observe(4, 4);
    bad.Observe(4, 0);
  }
  EXPECT_GT(good.rate(), 0.95);
  EXPECT_LT(bad.rate(), 0.05);

  Speculator cheap_rows(8, /*paced=*/true);
  Teach(cheap_rows, 1000, 50);
  EXPECT_EQ(count(cheap_rows, good, 1, 100), 8u);
  EXPECT_EQ(count(cheap_rows, good, 1, 3), 3u);
  EXPECT_EQ(count(cheap_rows, good, 1, 0), 0u);
  EXPECT_EQ(count(cheap_rows, bad, 1, 100), 0u);
  // A row costs as much as a step of its own: nothing is to be won.
  Speculator dear_rows(8, /*paced=*/true);
  Teach(dear_rows, 0, 1000);
  EXPECT_EQ(count(dear_rows, good, 1, 100), 0u);
  // Beside many, the weights' pass is shared already.
  Speculator between(8, /*paced=*/true);
  Teach(between, 1000, 300);
  EXPECT_GT(count(between, good, 1, 100), count(between, Acceptance(), 8, 100));
  Speculator always(8, /*paced=*/false);
  EXPECT_EQ(count(always, bad, 1, 100), 8u);
}

TEST(SpeculatorTest, ABadStretchIsForgotten) {
  Acceptance acceptance;
  for (int i = 0; i < 30; ++i) acceptance.Observe(4, 0);
  const double before = acceptance.rate();
  for (int i = 0; i < 100; ++i) acceptance.Rest();
  EXPECT_LT(before, 0.05);
  EXPECT_GT(acceptance.rate(), 0.5);
}

// A prompt that repeats itself, so that there is something to look up; a model
// of random weights falls into loops, too.
EngineRequest Repetitive(uint32_t seed) {
  std::mt19937 engine(seed);
  const auto random = [&engine] { return static_cast<uint32_t>(engine()); };
  EngineRequest request;
  request.request_id = fmt::format("request {}", seed);
  const uint32_t period = 3 + random() % 12;
  Tokens pattern;
  for (uint32_t i = 0; i < period; ++i) {
    pattern.push_back(static_cast<int32_t>(random() % kTinyVocabSize));
  }
  const uint32_t length = 20 + random() % 60;
  for (uint32_t i = 0; i < length; ++i) {
    request.prompt.push_back(pattern[i % period]);
  }
  SamplingParams& s = request.sampling;
  s.max_tokens = 1 + random() % 60;
  s.temperature = random() % 2 == 0 ? 0.0f : 0.3f;
  if (random() % 3 == 0) s.repetition_penalty = 1.1f;
  if (random() % 3 == 0) s.logprobs = 2;
  if (random() % 4 == 0) s.prompt_logprobs = true;
  if (random() % 4 == 0) s.stop = {"e", "the"};
  if (random() % 3 == 0) s.n = 2;
  s.ignore_eos = random() % 2 == 0;
  return request;
}

std::vector<std::string> RunAll(
    int32_t max_draft, int64_t pages, EngineStats* stats,
    std::unique_ptr<weights::ModelLease> draft = nullptr) {
  const auto compute = Compute::Create(2);
  auto engine = Engine::Create(
      MakeTinyModel(), MakeTinyTokenizer(), compute.get(),
      {.kv_budget_bytes = pages * 8192, .paced = false, .max_draft = max_draft},
      std::move(draft));
  EXPECT_TRUE(engine.ok()) << engine.status();
  std::vector<std::unique_ptr<Collector>> collectors;
  for (uint32_t seed = 0; seed < 60; ++seed) {
    EngineRequest request = Repetitive(seed);
    collectors.push_back(std::make_unique<Collector>(request.sampling.n));
    const auto ticket =
        (*engine)->Submit(std::move(request), collectors.back()->Sink());
    EXPECT_TRUE(ticket.ok()) << ticket.status();
  }
  std::vector<std::string> transcripts;
  for (auto& collector : collectors) {
    transcripts.push_back(Transcript(collector->Wait()));
    EXPECT_FALSE(collector->broken());
  }
  *stats = (*engine)->Stats();
  return transcripts;
}

TEST(SpeculationTest, TheSameBitsWithGuessesAndWithout) {
  EngineStats plain;
  const std::vector<std::string> expected = RunAll(0, 1000, &plain);
  EXPECT_EQ(plain.draft_tokens, 0);
  // The smaller cache preempts.
  for (const int64_t pages : {1000, 14}) {
    for (const int32_t max_draft : {1, 5, 20}) {
      EngineStats stats;
      const std::vector<std::string> said = RunAll(max_draft, pages, &stats);
      int different = 0;
      for (size_t i = 0; i < said.size(); ++i) {
        different += said[i] != expected[i];
      }
      EXPECT_EQ(different, 0) << max_draft << " guesses, " << pages << " pages";
      EXPECT_GT(stats.accepted_tokens, 100);
      EXPECT_GT(stats.draft_tokens, stats.accepted_tokens);
    }
  }
}

// A model that guesses for itself is right; another one of the same shape is
// not; neither changes an answer.
TEST(SpeculationTest, TheSameBitsWithADraftModel) {
  EngineStats plain;
  const std::vector<std::string> expected = RunAll(0, 1000, &plain);
  double rates[2] = {};
  for (const bool itself : {true, false}) {
    TinyModelOptions draft;
    draft.seed = itself ? 1 : 2;
    EngineStats stats;
    const std::vector<std::string> said =
        RunAll(4, 2000, &stats, MakeTinyModel(draft));
    int different = 0;
    for (size_t i = 0; i < said.size(); ++i) {
      different += said[i] != expected[i];
    }
    EXPECT_EQ(different, 0);
    EXPECT_GT(stats.draft_tokens, 100);
    rates[itself] = static_cast<double>(stats.accepted_tokens) /
                    static_cast<double>(stats.draft_tokens);
  }
  EXPECT_GT(rates[true], rates[false]);
}

TEST(SpeculationTest, ADraftModelPaysWhereItIsCheap) {
  Acceptance good(kDraftModelPrior);
  for (int i = 0; i < 30; ++i) good.Observe(4, 4);
  Speculator speculator(8, /*paced=*/true);
  StepTime cheap, dear;
  for (int i = 0; i < 20; ++i) {
    cheap.Observe(1, absl::Microseconds(50));
    dear.Observe(1, absl::Microseconds(1000));
  }
  EXPECT_EQ(speculator.CountForModel(good, 1, 1, 100, cheap), 0);
  Teach(speculator, 1000, 50);
  EXPECT_EQ(speculator.CountForModel(good, 1, 1, 100, cheap), 0);
  // What it costs without must be known first.
  for (int i = 0; i < Payoff::kPlainFirst; ++i) {
    speculator.payoff().ObservePlain(1, absl::Milliseconds(1));
  }
  EXPECT_EQ(speculator.CountForModel(good, 1, 1, 100, cheap), 8);
  EXPECT_EQ(speculator.CountForModel(good, 1, 1, 100, dear), 0);
  EXPECT_EQ(speculator.CountForModel(good, 1, 1, 0, cheap), 0);
}

TEST(PayoffTest, TheFasterGoesOnAndTheOtherHasAnotherTrial) {
  for (const bool pays : {true, false}) {
    Payoff payoff;
    EXPECT_FALSE(payoff.UseModel());
    for (int i = 0; i < Payoff::kPlainFirst; ++i) {
      payoff.ObservePlain(1, absl::Milliseconds(10));
    }
    // It reads first, and gives nothing more for that.
    for (int i = 0; i < Payoff::kTrial; ++i) {
      EXPECT_TRUE(payoff.UseModel());
      payoff.ObserveModel(i < 8 ? 1 : 3, absl::Milliseconds(pays ? 20 : 35));
    }
    EXPECT_EQ(payoff.UseModel(), pays);
    for (int64_t i = 0; i < Payoff::kAgain; ++i) {
      payoff.ObservePlain(1, absl::Milliseconds(10));
    }
    EXPECT_TRUE(payoff.UseModel());
  }
}

// A larger model's vocabulary is often padded further: prompts may hold ids
// that the draft has no embedding of.
TEST(SpeculationTest, ADraftModelWithFewerTokensGuessesForTheRest) {
  const auto compute = Compute::Create(1);
  TinyModelOptions small;
  small.missing_tokens = 3;
  const auto target = MakeTinyModel();
  auto draft = DraftModel::Create(MakeTinyModel(small), target->manifest(),
                                  kernels::FastOps(), kernels::KvType::kF16, 4);
  ASSERT_TRUE(draft.ok()) << draft.status();
  const std::vector<int32_t> known = {1, 2, 3};
  const std::vector<int32_t> beyond = {1, kTinyVocabSize - 1, 3};
  for (int round = 0; round < 2; ++round) {
    DraftWish wishes[] = {{{1, 0}, beyond, 2}, {{2, 0}, known, 2}};
    (*draft)->Draft(wishes, compute.get());
    EXPECT_TRUE(wishes[0].guesses.empty());
    ASSERT_EQ(wishes[1].guesses.size(), 2u);
    for (const int32_t guess : wishes[1].guesses) {
      EXPECT_LT(guess, kTinyVocabSize - 3);
    }
  }
}

std::unique_ptr<DraftModel> MakeDraft(const TinyModelOptions& options,
                                      int64_t max_guesses) {
  const auto target = MakeTinyModel();
  auto draft = DraftModel::Create(MakeTinyModel(options), target->manifest(),
                                  kernels::FastOps(), kernels::KvType::kF16,
                                  max_guesses);
  EXPECT_TRUE(draft.ok()) << draft.status();
  return *std::move(draft);
}

TEST(DraftModelTest, NobodyToGuessFor) {
  const auto compute = Compute::Create(1);
  const auto draft = MakeDraft({.missing_tokens = 3}, 4);
  draft->Draft({}, compute.get());
  // Nobody whom it can read, and nobody who wants anything.
  const std::vector<int32_t> beyond = {1, kTinyVocabSize - 1};
  const std::vector<int32_t> known = {1, 2};
  DraftWish wishes[] = {
      {{1, 0}, beyond, 2}, {{2, 0}, known, 0}, {{3, 0}, {}, 2}};
  draft->Draft(wishes, compute.get());
  for (const DraftWish& wish : wishes) EXPECT_TRUE(wish.guesses.empty());
  EXPECT_FALSE(draft->step_time().known());
}

TEST(DraftModelTest, GuessesNoMoreThanItsCacheHolds) {
  const auto compute = Compute::Create(1);
  const auto draft = MakeDraft({}, 4);
  // As many as it may keep, each as long as it may be, each wanting too much.
  std::vector<int32_t> tokens(2 * DraftModel::kWindow);
  for (size_t i = 0; i < tokens.size(); ++i) {
    tokens[i] = static_cast<int32_t>(i * 7 % 250);
  }
  for (int round = 0; round < 40; ++round) {
    std::vector<DraftWish> wishes;
    for (uint64_t i = 0; i < DraftModel::kMaxAnswers; ++i) {
      wishes.push_back({{i, 0}, tokens, 1000});
    }
    draft->Draft(wishes, compute.get());
    for (const DraftWish& wish : wishes) {
      ASSERT_TRUE(wish.guesses.empty() || wish.guesses.size() == 4u);
      if (round == 39) {
        ASSERT_EQ(wish.guesses.size(), 4u);
      }
    }
  }
}

// It reads no further than its own context, and says so when that is nothing.
TEST(DraftModelTest, AShortContextHasAShortWindow) {
  const auto compute = Compute::Create(1);
  const auto draft = MakeDraft({.max_context = 64}, 8);
  EXPECT_LT(draft->kv_bytes(), MakeDraft({}, 8)->kv_bytes());
  std::vector<int32_t> tokens;
  size_t guessed = 0;
  for (int i = 0; i < 400; ++i) {
    tokens.push_back(i * 7 % 250);
    DraftWish wishes[] = {{{1, 0}, tokens, 8}};
    draft->Draft(wishes, compute.get());
    guessed += wishes[0].guesses.size();
  }
  EXPECT_GT(guessed, 1000u);
  const auto target = MakeTinyModel();
  EXPECT_EQ(
      DraftModel::Create(MakeTinyModel({.max_context = 16}), target->manifest(),
                         kernels::FastOps(), kernels::KvType::kF16, 8)
          .status()
          .code(),
      absl::StatusCode::kInvalidArgument);
}

// Who asked longest ago is read anew, the others go on where they were.
TEST(DraftModelTest, KeepsTheAnswersThatAskedLast) {
  const auto compute = Compute::Create(1);
  const auto draft = MakeDraft({}, 2);
  // 100 tokens take four calls of 32 to read.
  std::vector<int32_t> tokens(100);
  for (size_t i = 0; i < tokens.size(); ++i) {
    tokens[i] = static_cast<int32_t>(i * 11 % 250);
  }
  const auto calls_until_guess = [&](uint64_t answer) {
    for (int calls = 1; calls < 10; ++calls) {
      DraftWish wishes[] = {{{answer, 0}, tokens, 2}};
      draft->Draft(wishes, compute.get());
      if (!wishes[0].guesses.empty()) return calls;
    }
    return 10;
  };
  for (uint64_t answer = 0; answer < DraftModel::kMaxAnswers; ++answer) {
    EXPECT_EQ(calls_until_guess(answer), 4) << answer;
  }
  for (uint64_t answer = 0; answer < DraftModel::kMaxAnswers; ++answer) {
    EXPECT_EQ(calls_until_guess(answer), 1) << answer;
  }
  EXPECT_EQ(calls_until_guess(0), 1);
  EXPECT_EQ(calls_until_guess(100), 4);  // takes the place of 1
  EXPECT_EQ(calls_until_guess(0), 1);
  EXPECT_EQ(calls_until_guess(2), 1);
  EXPECT_EQ(calls_until_guess(3), 1);
  EXPECT_EQ(calls_until_guess(1), 4);
}

// A budget that does not hold the draft model's cache too is no reason to
// answer nothing.
TEST(SpeculationTest, GoesWithoutADraftModelWhereMemoryIsShort) {
  const auto compute = Compute::Create(1);
  for (const bool enough : {false, true}) {
    const auto draft = MakeDraft({}, 8);
    const int64_t budget = 20 * 8192 + (enough ? draft->kv_bytes() : 0);
    ASSERT_LT(20 * 8192, draft->kv_bytes());
    const auto engine =
        Engine::Create(MakeTinyModel(), MakeTinyTokenizer(), compute.get(),
                       {.kv_budget_bytes = budget}, MakeTinyModel());
    ASSERT_TRUE(engine.ok()) << engine.status();
    EXPECT_EQ((*engine)->Stats().has_draft_model, enough);
    EXPECT_EQ((*engine)->Stats().kv_pages_total, 20);
  }
}

// A request that waits for a slot computes nothing, and so keeps nobody from
// guessing.
TEST(SpeculationTest, AWaitingPromptDoesNotStopTheDraftModel) {
  const auto compute = Compute::Create(1);
  auto engine = Engine::Create(
      MakeTinyModel(), MakeTinyTokenizer(), compute.get(),
      {.max_batch = 1, .paced = false, .max_draft = 4}, MakeTinyModel());
  ASSERT_TRUE(engine.ok()) << engine.status();
  // Nothing in it comes twice, so that nothing is looked up at first; chance
  // keeps the answer from falling into a loop.
  EngineRequest running;
  running.request_id = "running";
  for (int32_t i = 0; i < 60; ++i) running.prompt.push_back(i);
  running.sampling.temperature = 1.5f;
  running.sampling.max_tokens = 300;
  running.sampling.ignore_eos = true;
  EngineRequest waiting = running;
  waiting.request_id = "waiting";
  Collector first(1), second(1);
  ASSERT_TRUE((*engine)->Submit(running, first.Sink()).ok());
  ASSERT_TRUE((*engine)->Submit(waiting, second.Sink()).ok());
  first.Wait();
  // Of the first answer alone: the second had no slot.
  EXPECT_GT((*engine)->Stats().draft_tokens, 300);
  second.Wait();
}

TEST(SpeculationTest, ADraftModelOfAnotherVocabularyIsRefused) {
  const auto compute = Compute::Create(1);
  const auto engine =
      Engine::Create(MakeTinyModel(), MakeTinyTokenizer(), compute.get(), {},
                     MakeTinyModel({.other_tokens = true}));
  EXPECT_EQ(engine.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(Message(engine.status())),
              testing::HasSubstr("differs at token 100"));
}

}  // namespace
}  // namespace conclave::engine
