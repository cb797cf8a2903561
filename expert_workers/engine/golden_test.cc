// Real models against transformers in fp32 (tests/golden/engine).
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "expert_workers/engine/encoder.h"
#include "expert_workers/engine/engine.h"
#include "expert_workers/engine/real_model.h"
#include "expert_workers/engine/run_requests.h"
#include "kernels/ops.h"

namespace conclave::engine {
namespace {

constexpr const char* kSmolLm = "SmolLM2-135M-Instruct.Q4_1.gguf";
constexpr const char* kCoder = "Qwen2.5-Coder-0.5B-Instruct.Q4_K_M.gguf";
constexpr const char* kGemma = "gemma-3-270m.Q4_K_M.gguf";
constexpr const char* kMiniLm = "all-MiniLM-L6-v2";

nlohmann::json Golden(const std::string& name) {
  std::ifstream file("tests/golden/engine/" + name + ".json");
  EXPECT_TRUE(file.good()) << name;
  return nlohmann::json::parse(file);
}

#define LEASE_OR_SKIP(lease, file)                                            \
  std::unique_ptr<weights::ModelLease> lease = RealModels::Get().Lease(file); \
  if (lease == nullptr) {                                                     \
    GTEST_SKIP() << (file) << " is not here; see scripts/fetch_models";       \
  }

// One text's score: the log-probability of each token after the first, with
// the five best beside it.
std::vector<TokenEvent> Score(Engine& engine, const std::vector<int32_t>& ids) {
  EngineRequest request;
  request.request_id = "score";
  request.prompt = ids;
  request.sampling.max_tokens = 0;
  request.sampling.prompt_logprobs = true;
  request.sampling.logprobs = 5;
  Collector collector(1);
  const auto ticket = engine.Submit(request, collector.Sink());
  EXPECT_TRUE(ticket.ok()) << ticket.status();
  return collector.Wait()[0].prompt_tokens;
}

struct Distance {
  std::vector<double> deltas;
  int64_t same_best = 0;
  double delta_sum = 0;  // signed: of log-probabilities, oracle less ours

  double Mean() const {
    double sum = 0;
    for (const double d : deltas) sum += d;
    return sum / static_cast<double>(deltas.size());
  }
  double Quantile(double q) {
    std::sort(deltas.begin(), deltas.end());
    return deltas[static_cast<size_t>(q *
                                      static_cast<double>(deltas.size() - 1))];
  }
  double SameBest() const {
    return static_cast<double>(same_best) / static_cast<double>(deltas.size());
  }
  double PerplexityRatio() const {
    return std::exp(delta_sum / static_cast<double>(deltas.size()));
  }
};

// Texts [begin, end) of a golden file, by `engine`.
Distance Measure(Engine& engine, const nlohmann::json& golden, size_t begin,
                 size_t end) {
  Distance distance;
  for (size_t t = begin; t < end; ++t) {
    const nlohmann::json& text = golden["texts"][t];
    const auto ids = text["ids"].get<std::vector<int32_t>>();
    const std::vector<TokenEvent> scored = Score(engine, ids);
    for (size_t i = 1; i < ids.size(); ++i) {
      const double want = text["next_logprob"][i - 1];
      const double got = static_cast<double>(scored.at(i).logprob);
      distance.deltas.push_back(std::abs(got - want));
      distance.delta_sum += want - got;
      if (scored[i].top[0].token == text["best"][i - 1].get<int32_t>()) {
        ++distance.same_best;
      }
      if (!text.contains("top5")) continue;
      // Ranks may swap between equals; the values may not.
      for (size_t rank = 0; rank < 5; ++rank) {
        const double top_want = text["top5"][i - 1][rank][1];
        distance.deltas.push_back(std::abs(
            static_cast<double>(scored[i].top[rank].logprob) - top_want));
        distance.same_best += 1;
      }
    }
  }
  return distance;
}

void ExpectReferenceEqualsOracle(const char* file, const std::string& name,
                                 size_t num_texts) {
  LEASE_OR_SKIP(lease, file);
  const auto tokenizer = RealModels::MakeTokenizer(*lease);
  const auto compute = Compute::Create(2);
  auto engine = Engine::Create(std::move(lease), tokenizer, compute.get(),
                               {.reference_path = true});
  ASSERT_TRUE(engine.ok()) << engine.status();
  Distance distance = Measure(**engine, Golden(name), 0, num_texts);
  EXPECT_LE(distance.Quantile(1), 1e-3);
  EXPECT_GE(distance.deltas.size(), 20u);
  std::printf("%s reference: max %.6f mean %.6f over %zu values\n",
              name.c_str(), distance.Quantile(1), distance.Mean(),
              distance.deltas.size());
}

// llama.cpp's distances on texts like these: `mean`, `p99`.
void ExpectFastNoFurtherThanLlamaCpp(const char* file, const std::string& name,
                                     double mean, double p99,
                                     double same_best) {
  LEASE_OR_SKIP(lease, file);
  const auto tokenizer = RealModels::MakeTokenizer(*lease);
  const auto compute = Compute::Create(2);
  auto engine = Engine::Create(std::move(lease), tokenizer, compute.get(), {});
  ASSERT_TRUE(engine.ok()) << engine.status();
  const nlohmann::json golden = Golden(name);
  Distance distance = Measure(**engine, golden, 3, golden["texts"].size());
  EXPECT_GE(distance.deltas.size(), 900u);
  EXPECT_LE(distance.Mean(), mean);
  EXPECT_LE(distance.Quantile(.99), p99);
  EXPECT_GE(distance.SameBest(), same_best);
  std::printf(
      "%s fast: mean %.4f p99 %.3f max %.3f same best %.4f perplexity ratio "
      "%.4f over %zu tokens\n",
      name.c_str(), distance.Mean(), distance.Quantile(.99),
      distance.Quantile(1), distance.SameBest(), distance.PerplexityRatio(),
      distance.deltas.size());
}

TEST(GoldenTest, SmolLmReferenceEqualsTheOracle) {
  ExpectReferenceEqualsOracle(kSmolLm, "smollm2", 3);
}

TEST(GoldenTest, CoderReferenceEqualsTheOracle) {
  ExpectReferenceEqualsOracle(kCoder, "coder", 2);
}

TEST(GoldenTest, GemmaReferenceEqualsTheOracle) {
  ExpectReferenceEqualsOracle(kGemma, "gemma", 2);
}

TEST(GoldenTest, SmolLmFastIsAsNearAsLlamaCpp) {
  ExpectFastNoFurtherThanLlamaCpp(kSmolLm, "smollm2", .053, .31, .96);
}

TEST(GoldenTest, CoderFastIsAsNearAsLlamaCpp) {
  ExpectFastNoFurtherThanLlamaCpp(kCoder, "coder", .028, .18, .965);
}

TEST(GoldenTest, GemmaFastIsAsNearAsLlamaCpp) {
  ExpectFastNoFurtherThanLlamaCpp(kGemma, "gemma", .065, .38, .955);
}

void ExpectEmbeddings(bool reference_path, double max_abs, double min_cosine) {
  LEASE_OR_SKIP(lease, kMiniLm);
  const auto tokenizer = RealModels::MakeTokenizer(*lease);
  const auto compute = Compute::Create(2);
  auto encoder = Encoder::Create(std::move(lease), tokenizer, compute.get(),
                                 {.reference_path = reference_path});
  ASSERT_TRUE(encoder.ok()) << encoder.status();
  double worst = 0;
  double worst_cosine = 1;
  const nlohmann::json golden = Golden("minilm");
  ASSERT_FALSE(golden["texts"].empty());
  for (const nlohmann::json& text : golden["texts"]) {
    const auto embedding = (*encoder)->Embed(text["text"].get<std::string>());
    ASSERT_TRUE(embedding.ok()) << embedding.status();
    EXPECT_EQ(embedding->token_count, static_cast<int64_t>(text["ids"].size()));
    const auto want = text["embedding"].get<std::vector<double>>();
    ASSERT_EQ(embedding->values.size(), want.size());
    double cosine = 0;
    for (size_t i = 0; i < want.size(); ++i) {
      const double got = static_cast<double>(embedding->values[i]);
      ASSERT_TRUE(std::isfinite(got)) << i;  // max and min pass over a NaN
      worst = std::max(worst, std::abs(got - want[i]));
      cosine += got * want[i];
    }
    worst_cosine = std::min(worst_cosine, cosine);
  }
  EXPECT_LE(worst, max_abs);
  EXPECT_GE(worst_cosine, min_cosine);
  std::printf("minilm %s: max abs %.6f, least cosine %.6f\n",
              reference_path ? "reference" : "fast", worst, worst_cosine);
}

TEST(GoldenTest, EncoderReferenceEqualsTheOracle) {
  ExpectEmbeddings(true, 1e-4, 1 - 1e-4);
}

// Weights and activations in 8 bits.
TEST(GoldenTest, EncoderFastIsNear) { ExpectEmbeddings(false, 1e-2, 0.999); }

// Whatever the threads, the instruction set, and who else computes.
TEST(GoldenTest, EncoderSaysTheSameInCompany) {
  LEASE_OR_SKIP(lease, kMiniLm);
  const auto tokenizer = RealModels::MakeTokenizer(*lease);
  const auto make = [&](Compute* compute, const std::string& isa) {
    auto encoder = Encoder::Create(RealModels::Get().Lease(kMiniLm), tokenizer,
                                   compute, {.isa = isa});
    EXPECT_TRUE(encoder.ok()) << encoder.status();
    return *std::move(encoder);
  };
  const nlohmann::json golden = Golden("minilm");
  std::vector<std::string> texts;
  for (const nlohmann::json& text : golden["texts"]) {
    if (text["ids"].size() <= 64) texts.push_back(text["text"]);
  }
  ASSERT_GE(texts.size(), 4u);
  const auto embed_all = [&](Encoder& encoder) {
    std::vector<std::vector<float>> all;
    for (const std::string& text : texts) {
      const auto embedding = encoder.Embed(text);
      EXPECT_TRUE(embedding.ok()) << embedding.status();
      all.push_back(embedding.ok() ? embedding->values : std::vector<float>());
    }
    return all;
  };
  const auto one = Compute::Create(1);
  const auto two = Compute::Create(2);
  const auto alone = embed_all(*make(one.get(), ""));
  ASSERT_NE(alone[0], alone[1]);
  for (const kernels::Isa isa : kernels::SupportedIsas()) {
    EXPECT_EQ(embed_all(*make(two.get(), std::string(kernels::IsaName(isa)))),
              alone)
        << kernels::IsaName(isa);
  }
  const auto shared = make(two.get(), "");
  const auto neighbour = make(two.get(), "");
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; ++i) {
    threads.emplace_back(
        [&, i] { EXPECT_EQ(embed_all(i == 0 ? *neighbour : *shared), alone); });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST(GoldenTest, LongTextsAreReadWhole) {
  LEASE_OR_SKIP(lease, kMiniLm);
  const auto tokenizer = RealModels::MakeTokenizer(*lease);
  const auto compute = Compute::Create(2);
  auto encoder = Encoder::Create(std::move(lease), tokenizer, compute.get());
  ASSERT_TRUE(encoder.ok());
  std::string text;
  for (int i = 0; i < 600; ++i) text += "the weather is fine today. ";
  const Embedding one = *(*encoder)->Embed(text);
  const Embedding two =
      *(*encoder)->Embed(text + " My credit card was stolen in Rome.");
  EXPECT_GT(one.token_count, 3000);
  EXPECT_GT(two.token_count, one.token_count);
  EXPECT_NE(one.values, two.values);  // the end was not cut off
  double length = 0;
  for (const float v : two.values) {
    length += static_cast<double>(v) * static_cast<double>(v);
  }
  EXPECT_NEAR(length, 1, 1e-5);
  EXPECT_EQ((*encoder)->Embed(text)->values, one.values);
}

// The tiny model's property test, on a real one: in company, in chunks and
// short of pages, the same bits as alone.
TEST(GoldenTest, SmolLmSaysTheSameInCompany) {
  LEASE_OR_SKIP(lease, kSmolLm);
  const auto tokenizer = RealModels::MakeTokenizer(*lease);
  std::vector<EngineRequest> requests;
  const nlohmann::json golden = Golden("smollm2");
  for (size_t i = 0; i < golden["texts"].size(); ++i) {
    EngineRequest request;
    request.request_id = "r" + std::to_string(i);
    request.prompt = golden["texts"][i]["ids"].get<std::vector<int32_t>>();
    request.sampling.max_tokens = 12;
    request.sampling.logprobs = 2;
    request.sampling.temperature = i % 2 == 0 ? 0.0f : 0.8f;
    request.sampling.ignore_eos = true;
    requests.push_back(request);
  }
  const auto run = [&](int threads, const EngineOptions& options,
                       bool together) {
    const auto compute = Compute::Create(threads);
    auto engine = Engine::Create(RealModels::Get().Lease(kSmolLm), tokenizer,
                                 compute.get(), options);
    EXPECT_TRUE(engine.ok()) << engine.status();
    std::vector<std::unique_ptr<Collector>> collectors;
    std::vector<std::string> transcripts;
    for (const EngineRequest& request : requests) {
      collectors.push_back(std::make_unique<Collector>(1));
      EXPECT_TRUE((*engine)->Submit(request, collectors.back()->Sink()).ok());
      if (!together) collectors.back()->Wait();
    }
    for (auto& c : collectors) transcripts.push_back(Transcript(c->Wait()));
    return transcripts;
  };
  const std::vector<std::string> alone = run(1, {}, false);
  EXPECT_EQ(run(2, {}, true), alone);
  // 737,280 bytes a page; room for two or three of the nine.
  EXPECT_EQ(
      run(2,
          {.kv_budget_bytes = 14 * 737280, .max_batch = 5, .prefill_chunk = 37},
          true),
      alone);
}

}  // namespace
}  // namespace conclave::engine
