// The prefix cache and the shares of tenants, as an engine's callers see them.
#include <absl/time/clock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "expert_workers/engine/engine_fixture.h"

namespace conclave::engine {
namespace {

class EnginePrefixTest : public EngineTest {
 protected:
  // A prompt of `length` tokens, the same for the same `seed`.
  EngineRequest Long(int32_t seed, size_t length, int64_t max_tokens) {
    EngineRequest request = Request("x", max_tokens);
    request.prompt.clear();
    for (size_t i = 0; i < length; ++i) {
      request.prompt.push_back(
          static_cast<int32_t>((i * 31 + static_cast<size_t>(seed) * 7) % 251));
    }
    request.sampling.logprobs = 2;
    return request;
  }
};

TEST_F(EnginePrefixTest, TheNextTurnComputesOnlyWhatIsNew) {
  const auto engine = Make({}, {.max_context = 4096});
  const auto plain = Make({.prefix_cache = false}, {.max_context = 4096});
  EngineRequest request = Long(1, 300, 20);
  for (int turn = 0; turn < 4; ++turn) {
    const int64_t before = engine->Stats().prompt_tokens;
    const Outcome out = Run(*engine, request)[0];
    const Outcome expected = Run(*plain, request)[0];
    EXPECT_EQ(Transcript({out}), Transcript({expected}));
    EXPECT_EQ(expected.cached_token_count, 0);
    const auto size = static_cast<int64_t>(request.prompt.size());
    // All of the last turn but its last token, which was never computed.
    EXPECT_EQ(out.cached_token_count, turn == 0 ? 0 : size - 8);
    EXPECT_EQ(engine->Stats().prompt_tokens - before,
              size - out.cached_token_count);
    for (const TokenEvent& t : out.tokens) request.prompt.push_back(t.token);
    for (int32_t i = 0; i < 7; ++i) request.prompt.push_back(40 + i + turn);
  }
  const EngineStats stats = engine->Stats();
  EXPECT_EQ(stats.prefix.lookups, 4);
  EXPECT_EQ(stats.prefix.hits, 3);
  EXPECT_EQ(stats.prefix.tokens_saved, 319 + 346 + 373);
  EXPECT_GT(stats.prefix.pages, 10);
  EXPECT_EQ(plain->Stats().prefix.lookups, 0);
}

TEST_F(EnginePrefixTest, ATenantHasNoPartInAnothersPrompts) {
  const auto engine = Make();
  EngineRequest request = Long(1, 200, 4);
  request.tenant = "a";
  const std::string said = Transcript(Run(*engine, request));
  EXPECT_EQ(Run(*engine, request)[0].cached_token_count, 199);
  for (const std::string tenant : {"b", ""}) {
    request.tenant = tenant;
    const std::vector<Outcome> out = Run(*engine, request);
    EXPECT_EQ(out[0].cached_token_count, 0);
    EXPECT_EQ(Transcript(out), said);
  }
}

TEST_F(EnginePrefixTest, AScoredPromptIsComputedAndStillRemembered) {
  const auto engine = Make({.prefill_chunk = 50, .paced = false});
  EngineRequest request = Long(1, 200, 4);
  Run(*engine, request);
  request.sampling.prompt_logprobs = true;
  const Outcome scored = Run(*engine, request)[0];
  EXPECT_EQ(scored.cached_token_count, 0);
  ASSERT_EQ(scored.prompt_tokens.size(), 200u);
  const auto fresh = Make({.prefix_cache = false});
  EXPECT_EQ(Transcript({scored}), Transcript(Run(*fresh, request)));
  request.prompt[0] = 77;  // never seen, now scored
  Run(*engine, request);
  request.sampling.prompt_logprobs = false;
  EXPECT_EQ(Run(*engine, request)[0].cached_token_count, 199);
}

TEST_F(EnginePrefixTest, WhatWasComputedBeforeACancelIsNotLost) {
  const auto engine =
      Make({.prefill_chunk = 8, .paced = false}, {.max_context = 100000});
  EngineRequest request = Long(3, 20000, 1);
  Collector collector(1);
  const auto ticket = engine->Submit(request, collector.Sink());
  ASSERT_TRUE(ticket.ok());
  while (engine->Stats().prompt_tokens < 100) {
    absl::SleepFor(absl::Milliseconds(1));
  }
  engine->Cancel(*ticket);
  EXPECT_EQ(collector.Wait()[0].finish, FinishReason::kCancelled);
  const int64_t computed = engine->Stats().prompt_tokens;
  EXPECT_LT(computed, 20000);
  request.prompt.resize(90);
  EXPECT_EQ(Run(*engine, request)[0].cached_token_count, 89);
}

TEST_F(EnginePrefixTest, RememberedPagesGiveWayToThoseWhoNeedThem) {
  // Room for 6 pages: what is remembered of many prompts cannot be.
  const auto engine = Make({.kv_budget_bytes = 6 * 8192});
  const auto plain = Make({.prefix_cache = false});
  for (int32_t i = 0; i < 30; ++i) {
    const EngineRequest request = Long(i % 7, 100 + i, 60);
    EXPECT_EQ(Transcript(Run(*engine, request)),
              Transcript(Run(*plain, request)))
        << i;
  }
  const EngineStats stats = engine->Stats();
  EXPECT_GT(stats.prefix.evicted_pages, 20);
  EXPECT_LE(stats.prefix.pages, 6);
  // A request that needs every page gets it.
  EXPECT_EQ(Run(*engine, Long(99, 190, 2))[0].output_token_count, 2);
}

TEST_F(EnginePrefixTest, AFloodingTenantDoesNotHoldUpAnother) {
  const auto engine = Make({.max_batch = 2}, {.max_context = 100000});
  std::vector<std::unique_ptr<Collector>> flood;
  std::vector<uint64_t> tickets;
  for (int32_t i = 0; i < 40; ++i) {
    EngineRequest request = Long(i, 50, -1);  // for minutes
    request.tenant = "flood";
    flood.push_back(std::make_unique<Collector>(1));
    const auto ticket = engine->Submit(request, flood.back()->Sink());
    ASSERT_TRUE(ticket.ok());
    tickets.push_back(*ticket);
  }
  flood[0]->WaitForTokens(10);
  flood[1]->WaitForTokens(10);
  EngineRequest guest = Long(100, 50, 10);
  guest.tenant = "guest";
  EXPECT_EQ(Run(*engine, guest)[0].finish, FinishReason::kLength);
  EXPECT_EQ(Run(*engine, guest)[0].cached_token_count, 49);
  // Nobody of the flood has ended for it, nor lost a token.
  EXPECT_FALSE(flood[0]->ended());
  EXPECT_FALSE(flood[1]->ended());
  for (const uint64_t ticket : tickets) engine->Cancel(ticket);
  for (auto& collector : flood) collector->Wait();
  const auto alone = Make({.prefix_cache = false}, {.max_context = 100000});
  for (size_t i = 0; i < 2; ++i) {
    const std::vector<TokenEvent> said = flood[i]->Wait()[0].tokens;
    ASSERT_GE(said.size(), 10u);
    EngineRequest request =
        Long(static_cast<int32_t>(i), 50, static_cast<int64_t>(said.size()));
    const std::vector<TokenEvent> expected = Run(*alone, request)[0].tokens;
    ASSERT_EQ(expected.size(), said.size());
    for (size_t t = 0; t < said.size(); ++t) {
      ASSERT_EQ(said[t].token, expected[t].token);
      ASSERT_EQ(said[t].logprob, expected[t].logprob);
    }
  }
}

}  // namespace
}  // namespace conclave::engine
