// Who goes away in the middle of a long prompt frees the machine at once: the
// step is dropped between two layers. On real models, where a step takes long.
#include <absl/time/clock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "expert_workers/engine/engine.h"
#include "expert_workers/engine/real_model.h"
#include "expert_workers/engine/run_requests.h"

namespace conclave::engine {
namespace {

class CancelTest : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    lease_ = RealModels::Get().Lease(GetParam());
    if (lease_ == nullptr) {
      GTEST_SKIP() << GetParam() << " is missing: run scripts/fetch_models";
    }
    tokenizer_ = RealModels::MakeTokenizer(*lease_);
    auto engine =
        Engine::Create(std::move(lease_), tokenizer_, compute_.get(), {});
    ASSERT_TRUE(engine.ok()) << engine.status();
    engine_ = *std::move(engine);
  }

  static EngineRequest Long(int32_t seed) {
    EngineRequest request;
    request.request_id = "long";
    for (int32_t i = 0; i < 6000; ++i) {
      request.prompt.push_back((i * 7 + seed * 13) % 5000);
    }
    return request;
  }

  const std::unique_ptr<Compute> compute_ = Compute::Create(2);
  std::unique_ptr<weights::ModelLease> lease_;
  std::shared_ptr<const Tokenizer> tokenizer_;
  std::unique_ptr<Engine> engine_;
};

INSTANTIATE_TEST_SUITE_P(
    Models, CancelTest,
    testing::Values("SmolLM2-135M-Instruct.Q4_1.gguf",
                    "Qwen2.5-Coder-0.5B-Instruct.Q4_K_M.gguf"),
    [](const auto& param) { return param.index == 0 ? "SmolLm" : "Coder"; });

TEST_P(CancelTest, ALongPromptEndsWithinALayer) {
  std::vector<absl::Duration> taken;
  for (int32_t i = 0; i < 9; ++i) {
    Collector collector(1);
    const auto ticket = engine_->Submit(Long(i), collector.Sink());
    ASSERT_TRUE(ticket.ok());
    absl::SleepFor(absl::Milliseconds(100 + 17 * i));
    const absl::Time begin = absl::Now();
    engine_->Cancel(*ticket);
    EXPECT_EQ(collector.Wait()[0].finish, FinishReason::kCancelled);
    taken.push_back(absl::Now() - begin);
  }
  std::sort(taken.begin(), taken.end());
  std::printf("cancelled in %.1f ms, largest %.1f\n",
              absl::ToDoubleMilliseconds(taken[4]),
              absl::ToDoubleMilliseconds(taken[8]));
  // A layer takes some 5 ms. The median, for the machine may be busy.
  EXPECT_LT(taken[4], absl::Milliseconds(100));
}

TEST_P(CancelTest, ADeadlineEndsALongPromptInTime) {
  std::vector<absl::Duration> late;
  for (int32_t i = 0; i < 5; ++i) {
    EngineRequest request = Long(i);
    request.deadline = absl::Now() + absl::Milliseconds(200 + 17 * i);
    Collector collector(1);
    ASSERT_TRUE(engine_->Submit(request, collector.Sink()).ok());
    EXPECT_EQ(collector.Wait()[0].status.code(),
              absl::StatusCode::kDeadlineExceeded);
    late.push_back(absl::Now() - request.deadline);
  }
  std::sort(late.begin(), late.end());
  EXPECT_LT(late[2], absl::Milliseconds(100));
}

// A step is dropped for a cancelled prompt, never two in a row, so the one
// behind it computes on.
TEST_P(CancelTest, WhoKeepsCancellingStopsNobody) {
  EngineRequest patient = Long(77);
  patient.prompt.resize(100);
  patient.tenant = "patient";
  patient.sampling.max_tokens = 3;
  Collector collector(1);
  ASSERT_TRUE(engine_->Submit(patient, collector.Sink()).ok());
  int cancelled = 0;
  while (!collector.ended()) {
    ASSERT_LT(++cancelled, 2000);
    Collector passing(1);
    const auto ticket = engine_->Submit(Long(cancelled), passing.Sink());
    ASSERT_TRUE(ticket.ok());
    absl::SleepFor(absl::Milliseconds(5));
    engine_->Cancel(*ticket);
    passing.Wait();
  }
  EXPECT_EQ(collector.Wait()[0].finish, FinishReason::kLength);
}

}  // namespace
}  // namespace conclave::engine
