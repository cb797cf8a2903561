// Test help: engines of the tiny model.
#ifndef CONCLAVE_EXPERT_WORKERS_ENGINE_ENGINE_FIXTURE_H_
#define CONCLAVE_EXPERT_WORKERS_ENGINE_ENGINE_FIXTURE_H_

#include <absl/time/clock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "expert_workers/engine/engine.h"
#include "expert_workers/engine/run_requests.h"
#include "expert_workers/engine/tiny_model.h"

namespace conclave::engine {

class EngineTest : public testing::Test {
 protected:
  std::unique_ptr<Engine> Make(EngineOptions options = {},
                               TinyModelOptions model = {}) {
    absl::StatusOr<std::unique_ptr<Engine>> engine = Engine::Create(
        MakeTinyModel(model), tokenizer_, compute_.get(), options);
    EXPECT_TRUE(engine.ok()) << engine.status();
    return *std::move(engine);
  }

  EngineRequest Request(const std::string& prompt, int64_t max_tokens) {
    EngineRequest request;
    request.request_id = "r-" + prompt;
    request.prompt = tokenizer_->Encode(prompt, SpecialTokens::kAsText);
    request.sampling.temperature = 0;
    request.sampling.max_tokens = max_tokens;
    request.sampling.ignore_eos = true;
    return request;
  }

  std::vector<Outcome> Run(Engine& engine, const EngineRequest& request) {
    Collector collector(request.sampling.n);
    const auto ticket = engine.Submit(request, collector.Sink());
    EXPECT_TRUE(ticket.ok()) << ticket.status();
    if (!ticket.ok()) return {};
    std::vector<Outcome> out = collector.Wait();
    EXPECT_FALSE(collector.broken());
    return out;
  }

  // The last event leaves before the step that frees its pages has ended.
  static void ExpectNoPagesUsed(const Engine& engine) {
    for (int i = 0; i < 5000 && engine.Stats().kv_pages_used > 0; ++i) {
      absl::SleepFor(absl::Milliseconds(1));
    }
    EXPECT_EQ(engine.Stats().kv_pages_used, 0);
  }

  const std::shared_ptr<const Tokenizer> tokenizer_ = MakeTinyTokenizer();
  const std::unique_ptr<Compute> compute_ = Compute::Create(2);
};

}  // namespace conclave::engine

#endif  // CONCLAVE_EXPERT_WORKERS_ENGINE_ENGINE_FIXTURE_H_
