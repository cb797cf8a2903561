#include "expert_workers/engine/engine.h"

#include <absl/time/clock.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "expert_workers/engine/engine_fixture.h"

namespace conclave::engine {
namespace {

using testing::HasSubstr;

TEST_F(EngineTest, GeneratesToTheLength) {
  const auto engine = Make();
  const std::vector<Outcome> out = Run(*engine, Request("hello", 12));
  ASSERT_EQ(out.size(), 1u);
  EXPECT_EQ(out[0].finish, FinishReason::kLength);
  EXPECT_EQ(out[0].tokens.size(), 12u);
  EXPECT_EQ(out[0].output_token_count, 12);
  EXPECT_EQ(out[0].prompt_token_count, 5);
  std::vector<int32_t> ids;
  for (const TokenEvent& t : out[0].tokens) ids.push_back(t.token);
  EXPECT_EQ(out[0].text, tokenizer_->Decode(ids));
  const EngineStats stats = engine->Stats();
  EXPECT_EQ(stats.prompt_tokens, 5);
}

TEST_F(EngineTest, EndsAtTheContext) {
  const auto engine = Make({.max_context = 40});
  EXPECT_EQ(engine->max_context(), 40);
  EngineRequest request = Request("hello", -1);
  const std::vector<Outcome> out = Run(*engine, request);
  EXPECT_EQ(out[0].finish, FinishReason::kLength);
  EXPECT_EQ(out[0].output_token_count, 35);
  request.sampling.max_tokens = 35;
  EXPECT_EQ(Run(*engine, request)[0].output_token_count, 35);
}

TEST_F(EngineTest, RefusesWithTheArithmetic) {
  // Pages of 8 KiB; the budget holds three.
  const auto engine = Make({.kv_budget_bytes = 3 * 8192 + 100});
  EXPECT_EQ(engine->Stats().kv_pages_total, 3);
  const auto submit = [&](const EngineRequest& request) {
    return engine->Submit(request, [](const EngineEvent&) { FAIL(); }).status();
  };
  absl::Status status = submit(Request("hello", 600));
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(Message(status)),
              HasSubstr("context_length_exceeded: 5 prompt tokens and 600 to "
                        "generate are 605; the context is 512"));
  status = submit(Request("hello", 200));
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(Message(status)), HasSubstr("need 7 KV pages"));
  EngineRequest request = Request("hello", 5);
  request.prompt[2] = kTinyVocabSize;
  EXPECT_EQ(submit(request).code(), absl::StatusCode::kInvalidArgument);
  request.prompt.clear();
  EXPECT_EQ(submit(request).code(), absl::StatusCode::kInvalidArgument);
  request = Request("hello", 5);
  request.sampling.n = 9;
  EXPECT_THAT(std::string(Message(submit(request))), HasSubstr("n is 9"));
  // What fits the cache alone runs, to the cache's end.
  EXPECT_EQ(Run(*engine, Request("hello", -1))[0].output_token_count, 91);
}

TEST_F(EngineTest, TheQueueIsBounded) {
  const auto engine = Make({.max_batch = 1, .max_waiting = 2});
  Collector running(1);
  ASSERT_TRUE(engine->Submit(Request("a", -1), running.Sink()).ok());
  running.WaitForTokens(1);
  Collector waiting[2] = {Collector(1), Collector(1)};
  for (Collector& c : waiting) {
    ASSERT_TRUE(engine->Submit(Request("b", 1), c.Sink()).ok());
  }
  const absl::Status full =
      engine->Submit(Request("c", 1), [](const EngineEvent&) {}).status();
  if (!running.ended()) {
    EXPECT_EQ(full.code(), absl::StatusCode::kResourceExhausted);
    EXPECT_THAT(std::string(Message(full)), HasSubstr("requests wait, 2 may"));
  }
  running.Wait();
  for (Collector& c : waiting) {
    EXPECT_EQ(c.Wait()[0].finish, FinishReason::kLength);
  }
}

TEST_F(EngineTest, StopsAtTheEndOfTurn) {
  const auto engine = Make();
  EngineRequest request = Request("hello", 20);
  request.sampling.ignore_eos = false;
  request.sampling.logit_bias = {{kTinyEndOfTurn, 100.0f}};
  std::vector<Outcome> out = Run(*engine, request);
  EXPECT_EQ(out[0].finish, FinishReason::kStop);
  EXPECT_EQ(out[0].text, "");
  EXPECT_TRUE(out[0].tokens.empty());
  EXPECT_EQ(out[0].output_token_count, 1);
  request.sampling.ignore_eos = true;
  out = Run(*engine, request);
  EXPECT_EQ(out[0].finish, FinishReason::kLength);
  EXPECT_EQ(out[0].tokens.size(), 20u);
  EXPECT_EQ(out[0].text, "");  // a control token is no text
}

TEST_F(EngineTest, StopStringsAcrossTokens) {
  const auto engine = Make();
  // The model says what the bias tells it: "STOP" as bytes, after an "x".
  EngineRequest request = Request("hello", 30);
  const std::string said = Run(*engine, request)[0].text;
  ASSERT_GE(said.size(), 10u);
  // Any stretch of what it says, as a stop string: the text ends before it.
  for (size_t at = 1; at + 4 < said.size(); at += 3) {
    const std::string stop = said.substr(at, 4);
    request.sampling.stop = {"never said", stop};
    const std::vector<Outcome> out = Run(*engine, request);
    EXPECT_EQ(out[0].finish, FinishReason::kStop);
    EXPECT_EQ(out[0].text, said.substr(0, said.find(stop)));
  }
}

TEST_F(EngineTest, CharactersComeWhole) {
  const auto engine = Make();
  for (const char* word : {"\xc3\xa9", "\xe6\x9d"}) {
    EngineRequest request = Request("hello", 4);
    request.sampling.logit_bias = {{*tokenizer_->FindToken(word), 100.0f}};
    Collector collector(1);
    std::vector<std::string> texts;
    EventSink sink = collector.Sink();
    ASSERT_TRUE(engine
                    ->Submit(request,
                             [&](const EngineEvent& event) {
                               texts.push_back(event.text);
                               sink(event);
                             })
                    .ok());
    const Outcome out = collector.Wait()[0];
    const bool whole = std::string(word).size() == 2 && word[0] == '\xc3';
    // An unfinished character becomes U+FFFD, once it is known to be.
    const std::string shown = whole ? "\xc3\xa9" : "\xef\xbf\xbd";
    EXPECT_EQ(out.text, shown + shown + shown + shown);
    for (const std::string& text : texts) {
      EXPECT_EQ(text.size() % shown.size(), 0u);
    }
  }
}

TEST_F(EngineTest, ScoresAPromptWithoutGenerating) {
  const auto engine = Make({.prefill_chunk = 16});
  EngineRequest request = Request("the quick brown fox jumps over it", 0);
  request.sampling.prompt_logprobs = true;
  request.sampling.logprobs = 3;
  const Outcome out = Run(*engine, request)[0];
  EXPECT_EQ(out.finish, FinishReason::kLength);
  EXPECT_EQ(out.text, "");
  EXPECT_EQ(out.output_token_count, 0);
  ASSERT_EQ(out.prompt_tokens.size(), request.prompt.size());
  for (size_t i = 0; i < request.prompt.size(); ++i) {
    EXPECT_EQ(out.prompt_tokens[i].token, request.prompt[i]);
    EXPECT_EQ(out.prompt_tokens[i].top.size(), i == 0 ? 0u : 3u);
    if (i == 0) continue;
    EXPECT_LT(out.prompt_tokens[i].logprob, 0);
    EXPECT_GE(out.prompt_tokens[i].top[0].logprob,
              out.prompt_tokens[i].logprob);
  }
  // A prefix scores alike; generating beside changes nothing.
  request.prompt.resize(10);
  request.sampling.max_tokens = 3;
  const Outcome prefix = Run(*engine, request)[0];
  ASSERT_EQ(prefix.prompt_tokens.size(), 10u);
  for (size_t i = 0; i < 10; ++i) {
    EXPECT_EQ(prefix.prompt_tokens[i].logprob, out.prompt_tokens[i].logprob);
  }
  request.prompt.resize(1);
  EXPECT_EQ(Run(*engine, request)[0].prompt_tokens.size(), 1u);
}

TEST_F(EngineTest, ScoringAndGeneratingAgree) {
  const auto engine = Make();
  EngineRequest request = Request("abc", 20);
  request.sampling.logprobs = 0;
  const Outcome said = Run(*engine, request)[0];
  // The answer, as a prompt: the same log-probabilities, bit for bit.
  for (const TokenEvent& t : said.tokens) request.prompt.push_back(t.token);
  request.sampling.max_tokens = 0;
  request.sampling.prompt_logprobs = true;
  const Outcome scored = Run(*engine, request)[0];
  ASSERT_EQ(scored.prompt_tokens.size(), 23u);
  for (size_t i = 0; i < 20; ++i) {
    EXPECT_EQ(scored.prompt_tokens[3 + i].logprob, said.tokens[i].logprob);
  }
}

TEST_F(EngineTest, AnswersDifferAndTheFirstIsTheOnlyOnes) {
  const auto engine = Make({.max_batch = 3});  // fewer slots than answers
  EngineRequest request = Request("hello", 10);
  request.sampling.temperature = 1;
  request.sampling.seed = 11;
  const Outcome alone = Run(*engine, request)[0];
  request.sampling.n = 5;
  const std::vector<Outcome> out = Run(*engine, request);
  ASSERT_EQ(out.size(), 5u);
  EXPECT_EQ(Transcript({out[0]}), Transcript({alone}));
  for (size_t i = 1; i < out.size(); ++i) {
    EXPECT_EQ(out[i].tokens.size(), 10u);
    EXPECT_NE(Transcript({out[i]}), Transcript({out[0]}));
  }
  // Greedy answers are all one.
  request.sampling.temperature = 0;
  const std::vector<Outcome> greedy = Run(*engine, request);
  for (const Outcome& o : greedy) {
    EXPECT_EQ(Transcript({o}), Transcript({greedy[0]}));
  }
  ExpectNoPagesUsed(*engine);
}

TEST_F(EngineTest, AMissingSeedComesFromTheRequestId) {
  const auto engine = Make();
  EngineRequest request = Request("hello", 16);
  request.sampling.temperature = 1;
  const std::string first = Transcript(Run(*engine, request));
  EXPECT_EQ(Transcript(Run(*engine, request)), first);
  request.request_id = "another";
  EXPECT_NE(Transcript(Run(*engine, request)), first);
}

TEST_F(EngineTest, CancelFreesThePages) {
  const auto engine = Make({.max_batch = 2}, {.max_context = 100000});
  Collector collector(1);
  const auto ticket = engine->Submit(Request("hello", -1), collector.Sink());
  ASSERT_TRUE(ticket.ok());
  collector.WaitForTokens(2);
  EXPECT_FALSE(collector.ended());
  engine->Cancel(*ticket);
  EXPECT_EQ(collector.Wait()[0].finish, FinishReason::kCancelled);
  engine->Cancel(*ticket);  // gone: ignored
  engine->Cancel(12345);
  const Outcome next = Run(*engine, Request("x", 3))[0];
  EXPECT_EQ(next.finish, FinishReason::kLength);
  ExpectNoPagesUsed(*engine);
  const EngineStats stats = engine->Stats();
  EXPECT_EQ(stats.running, 0);
  EXPECT_EQ(stats.cancelled_requests, 1);
  EXPECT_EQ(stats.finished_requests, 2);
}

TEST_F(EngineTest, DeadlinesEndRunningAndWaitingRequests) {
  const auto engine = Make({.max_batch = 1}, {.max_context = 100000});
  EngineRequest request = Request("hello", -1);
  request.deadline = absl::Now() + absl::Milliseconds(60);
  Collector running(1);
  ASSERT_TRUE(engine->Submit(request, running.Sink()).ok());
  Collector waiting(1);
  ASSERT_TRUE(engine->Submit(request, waiting.Sink()).ok());
  EXPECT_EQ(running.Wait()[0].finish, FinishReason::kError);
  EXPECT_EQ(running.Wait()[0].status.code(),
            absl::StatusCode::kDeadlineExceeded);
  EXPECT_GT(running.Wait()[0].tokens.size(), 0u);
  EXPECT_EQ(waiting.Wait()[0].status.code(),
            absl::StatusCode::kDeadlineExceeded);
}

TEST_F(EngineTest, DestructionCancelsWhatRuns) {
  Collector collectors[3] = {Collector(1), Collector(2), Collector(1)};
  {
    const auto engine = Make({.max_batch = 2}, {.max_context = 100000});
    for (int i = 0; i < 3; ++i) {
      EngineRequest request = Request("hello", -1);
      request.sampling.n = i == 1 ? 2 : 1;
      ASSERT_TRUE(engine->Submit(request, collectors[i].Sink()).ok());
    }
    collectors[0].WaitForTokens(1);
  }
  for (Collector& collector : collectors) {
    for (const Outcome& o : collector.Wait()) {
      EXPECT_EQ(o.finish, FinishReason::kCancelled);
    }
  }
}

TEST_F(EngineTest, NonsenseFromTheModelHurtsNobodyElse) {
  const int32_t poisoned = 'q';
  // Not tied: the head stays sound, so that only readers of 'q' are hit.
  const TinyModelOptions model = {.tied_embeddings = false};
  absl::StatusOr<std::unique_ptr<Engine>> engine =
      Engine::Create(MakeTinyModelWithPoison(model, poisoned), tokenizer_,
                     compute_.get(), {.kv_budget_bytes = 1 << 17});
  ASSERT_TRUE(engine.ok());
  const auto sound = Make({}, model);
  EngineRequest good = Request("hello", 40);
  good.sampling.logprobs = 2;
  good.sampling.logit_bias = {{poisoned, -100.0f}};
  const std::string expected = Transcript(Run(*sound, good));
  for (int i = 0; i < 5; ++i) {
    EngineRequest bad = Request(i % 2 == 0 ? "quick" : "abcq", 40);
    bad.sampling.prompt_logprobs = i == 3;
    bad.sampling.n = 1 + i % 2;
    Collector a(1);
    Collector b(bad.sampling.n);
    ASSERT_TRUE((*engine)->Submit(bad, b.Sink()).ok());
    ASSERT_TRUE((*engine)->Submit(good, a.Sink()).ok());
    for (const Outcome& o : b.Wait()) {
      EXPECT_EQ(o.finish, FinishReason::kError);
      EXPECT_EQ(o.status.code(), absl::StatusCode::kInternal);
    }
    // Also on pages that the nonsense was on before.
    EXPECT_EQ(Transcript(a.Wait()), expected);
  }
}

TEST_F(EngineTest, ATinyReferenceEngineRuns) {
  const auto engine = Make({.reference_path = true});
  EXPECT_EQ(Run(*engine, Request("hello", 4))[0].tokens.size(), 4u);
}

TEST_F(EngineTest, OptionsAndFamiliesAreChecked) {
  const auto create = [&](EngineOptions options, TinyModelOptions model) {
    return Engine::Create(MakeTinyModel(model), tokenizer_, compute_.get(),
                          options)
        .status();
  };
  EXPECT_EQ(create({}, {.architecture = "mamba"}).code(),
            absl::StatusCode::kUnimplemented);
  EXPECT_EQ(create({.max_batch = 0}, {}).code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(create({.kv_budget_bytes = 10}, {}).code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(create({.isa = "neon"}, {}).code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(create({}, {.architecture = "qwen2"}).ok());
}

}  // namespace
}  // namespace conclave::engine
