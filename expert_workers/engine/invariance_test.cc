// Neighbours never matter: a request's tokens, texts and log-probabilities are
// the same bits alone and in any company, order, chunking, cache size, number
// of threads and instruction set.
#include <gtest/gtest.h>

#include <cstdlib>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "expert_workers/engine/engine.h"
#include "expert_workers/engine/kv_cache.h"
#include "expert_workers/engine/run_requests.h"
#include "expert_workers/engine/tiny_model.h"
#include "kernels/ops.h"

namespace conclave::engine {
namespace {

using Random = std::mt19937;

uint32_t Draw(Random& random) { return static_cast<uint32_t>(random()); }

// CONCLAVE_TRIALS=10000 for a long run.
int Trials() {
  const char* trials = std::getenv("CONCLAVE_TRIALS");
  return trials == nullptr ? 120 : std::atoi(trials);
}

EngineRequest RandomRequest(uint32_t seed) {
  Random random(seed);
  const auto below = [&](uint32_t n) { return Draw(random) % n; };
  EngineRequest request;
  request.request_id = "request " + std::to_string(seed);
  const uint32_t length = below(4) == 0 ? 1 + below(150) : 1 + below(40);
  for (uint32_t i = 0; i < length; ++i) {
    request.prompt.push_back(static_cast<int32_t>(below(kTinyVocabSize)));
  }
  SamplingParams& s = request.sampling;
  s.max_tokens = below(8) == 0 ? 0 : below(40);
  s.temperature = below(3) == 0 ? 0.0f : 0.25f * static_cast<float>(below(8));
  if (below(3) == 0) s.top_k = static_cast<int32_t>(below(50));
  if (below(3) == 0) s.top_p = 0.9f;
  if (below(4) == 0) s.min_p = 0.05f;
  if (below(4) == 0) s.repetition_penalty = 1.2f;
  if (below(4) == 0) s.presence_penalty = 0.5f;
  if (below(4) == 0) s.frequency_penalty = 0.3f;
  if (below(4) == 0) s.logit_bias[static_cast<int32_t>(below(256))] = 2.0f;
  if (below(2) == 0) s.logprobs = static_cast<int32_t>(below(4));
  if (below(4) == 0) s.prompt_logprobs = true;
  if (below(3) == 0) s.seed = below(1000);
  if (below(4) == 0) s.stop = {"e", "the"};
  s.ignore_eos = below(2) == 0;
  if (below(4) == 0) s.n = static_cast<int32_t>(1 + below(4));
  return request;
}

std::string IsaFor(uint32_t choice) {
  const std::vector<kernels::Isa> isas = kernels::SupportedIsas();
  return std::string(kernels::IsaName(isas[choice % isas.size()]));
}

struct Case {
  const char* name;
  TinyModelOptions model;
  bool reference_path = false;
};

// Every layer that a family of families/ has, windows shorter and longer than
// a page, and both paths.
const Case kCases[] = {
    {"llama", {.architecture = "llama"}},
    {"mistral", {.architecture = "llama", .window = 20}},
    {"qwen2", {.architecture = "qwen2"}},
    {"qwen3", {.architecture = "qwen3", .tied_embeddings = false}},
    {"gemma3", {.architecture = "gemma3", .window = 45}},
    {"gemma3 reference", {.architecture = "gemma3", .window = 20}, true},
    {"qwen3 reference", {.architecture = "qwen3", .window = 45}, true},
};

int64_t PageBytes(const Case& c) {
  const auto lease = MakeTinyModel(c.model);
  const weights::ModelHyperparameters& m =
      lease->manifest().spec.hyperparameters;
  const KvShape shape = {
      .type = c.reference_path ? kernels::KvType::kF32 : kernels::KvType::kF16,
      .num_layers = m.num_layers,
      .num_kv_heads = m.num_kv_heads,
      .head_dim = m.head_dim};
  return shape.PageBytes();
}

// Runs `requests` together in an engine drawn from `random`.
std::vector<std::string> RunTogether(const std::vector<EngineRequest>& requests,
                                     const Case& c, Random& random,
                                     int64_t* preemption_room) {
  const auto compute = Compute::Create(1 + static_cast<int>(random() % 2));
  EngineOptions options;
  options.reference_path = c.reference_path;
  // The largest request needs 6 pages.
  const int64_t pages = 6 + static_cast<int64_t>(random() % 30);
  *preemption_room = pages;
  options.kv_budget_bytes = pages * PageBytes(c);
  options.max_batch = 1 + static_cast<int32_t>(random() % 10);
  options.prefill_chunk = 1 + static_cast<int32_t>(random() % 200);
  options.isa = IsaFor(Draw(random));
  auto engine = Engine::Create(MakeTinyModel(c.model), MakeTinyTokenizer(),
                               compute.get(), options);
  EXPECT_TRUE(engine.ok()) << engine.status();
  std::vector<std::unique_ptr<Collector>> collectors;
  std::vector<uint64_t> noise;
  Collector cancelled(1);
  for (const EngineRequest& request : requests) {
    if (random() % 4 == 0 && noise.empty()) {
      // One that is cancelled on the way.
      EngineRequest passing = RandomRequest(Draw(random));
      passing.sampling.n = 1;
      passing.sampling.max_tokens = 30;
      noise.push_back(*(*engine)->Submit(passing, cancelled.Sink()));
    }
    collectors.push_back(std::make_unique<Collector>(request.sampling.n));
    const auto ticket = (*engine)->Submit(request, collectors.back()->Sink());
    EXPECT_TRUE(ticket.ok()) << ticket.status();
    if (random() % 3 == 0) collectors.back()->WaitForTokens(random() % 5);
  }
  for (const uint64_t ticket : noise) (*engine)->Cancel(ticket);
  std::vector<std::string> transcripts;
  for (auto& collector : collectors) {
    transcripts.push_back(Transcript(collector->Wait()));
    EXPECT_FALSE(collector->broken());
  }
  if (!noise.empty()) cancelled.Wait();
  return transcripts;
}

TEST(InvarianceTest, SameBitsInAnyCompany) {
  constexpr uint32_t kRequests = 40;
  for (const Case& c : kCases) {
    // Alone: one thread, scalar, whole prompts at once.
    std::map<uint32_t, std::string> alone;
    {
      const auto compute = Compute::Create(1);
      auto engine = Engine::Create(
          MakeTinyModel(c.model), MakeTinyTokenizer(), compute.get(),
          {.reference_path = c.reference_path, .isa = "scalar"});
      ASSERT_TRUE(engine.ok());
      for (uint32_t seed = 0; seed < kRequests; ++seed) {
        const EngineRequest request = RandomRequest(seed);
        Collector collector(request.sampling.n);
        ASSERT_TRUE((*engine)->Submit(request, collector.Sink()).ok());
        alone[seed] = Transcript(collector.Wait());
      }
    }
    const int trials = Trials() / 3;
    for (int trial = 0; trial < trials; ++trial) {
      Random random(static_cast<uint32_t>(trial));
      std::vector<uint32_t> seeds;
      std::vector<EngineRequest> requests;
      const size_t count = 1 + random() % 12;
      for (size_t i = 0; i < count; ++i) {
        seeds.push_back(Draw(random) % kRequests);
        requests.push_back(RandomRequest(seeds.back()));
      }
      int64_t pages = 0;
      const std::vector<std::string> together =
          RunTogether(requests, c, random, &pages);
      for (size_t i = 0; i < count; ++i) {
        ASSERT_EQ(together[i], alone[seeds[i]])
            << c.name << " trial " << trial << " request " << seeds[i]
            << " pages " << pages;
      }
    }
  }
}

}  // namespace
}  // namespace conclave::engine
