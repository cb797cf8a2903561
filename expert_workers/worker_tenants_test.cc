// The worker's tenants with a real model (SmolLM2): shares of the queue and of
// the engine, and who finds which cached prompt.
#include <absl/time/clock.h>
#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "expert_workers/worker_fixture.h"

namespace conclave::workers {
namespace {

using testing::HasSubstr;

v1::WorkerGenerateRequest AskAs(const std::string& tenant,
                                const std::string& text, int64_t max_tokens) {
  v1::WorkerGenerateRequest request = Ask(kChat, text, max_tokens);
  request.set_tenant(tenant);
  return request;
}

TEST(WorkerTenantsTest, TheNextTurnIsCachedForItsTenantAlone) {
  NEED_MODELS();
  Worker worker(models->store(), Roomy());
  v1::WorkerGenerateRequest request =
      AskAs("acme", "Tell me about the sea, in some detail please.", 40);
  const Outcome first = worker.Run(request);
  ASSERT_TRUE(first.status.ok()) << first.status;
  EXPECT_EQ(first.usage.cached_tokens(), 0);
  v1::ChatMessage* answer = request.mutable_chat()->add_messages();
  answer->set_role("assistant");
  answer->set_content(first.text);
  v1::ChatMessage* next = request.mutable_chat()->add_messages();
  next->set_role("user");
  next->set_content("And what lives in it?");
  const Outcome second = worker.Run(request);
  ASSERT_TRUE(second.status.ok()) << second.status;
  // The first prompt at least; its answer too, as far as its text became the
  // same tokens again.
  EXPECT_GE(second.usage.cached_tokens(), first.usage.prompt_tokens());
  EXPECT_LT(second.usage.cached_tokens(), second.usage.prompt_tokens());
  request.set_tenant("other");
  const Outcome stranger = worker.Run(request);
  EXPECT_EQ(stranger.usage.cached_tokens(), 0);
  EXPECT_EQ(stranger.tokens, second.tokens);
  const v1::WorkerStats::PrefixCache stats =
      worker.StatsOf(kChat).prefix_cache();
  EXPECT_EQ(stats.lookups(), 3);
  EXPECT_EQ(stats.hits(), 1);
  EXPECT_EQ(stats.tokens_saved(), second.usage.cached_tokens());
  EXPECT_GT(stats.pages(), 0);
}

TEST(WorkerTenantsTest, AFloodHoldsUpNobodyElse) {
  NEED_MODELS();
  ModelHostOptions options = Roomy();
  options.max_batch = 4;
  options.max_waiting = 20;
  Worker worker(models->store(), options);
  std::vector<std::unique_ptr<Running>> flood;
  for (int i = 0; i < 60; ++i) {
    v1::WorkerGenerateRequest endless =
        AskAs("flood", fmt::format("Count from {}.", i), 4000);
    endless.set_request_id(fmt::format("flood-{}", i));
    endless.mutable_sampling()->set_ignore_eos(true);
    flood.push_back(std::make_unique<Running>(worker.client(), endless));
    if (i < 4) flood.back()->WaitForText();
  }
  // All slots are taken for minutes, and the queue is full of the flood.
  const auto refused = [&] {
    int count = 0;
    for (auto& one : flood) count += one->done();
    return count;
  };
  const absl::Time start = absl::Now();
  while (refused() < 30 && absl::Now() - start < absl::Seconds(30)) {
    absl::SleepFor(absl::Milliseconds(5));
  }
  EXPECT_GE(refused(), 30);
  for (const std::string tenant : {"guest", "another guest"}) {
    const Outcome guest = worker.Run(AskAs(tenant, "Say hello.", 4));
    EXPECT_TRUE(guest.status.ok()) << guest.status;
    EXPECT_LT(guest.took, absl::Seconds(20));
  }
  EXPECT_GT(worker.StatsOf(kChat).preemptions(), 0);
  // Whoever gave way runs again.
  const absl::Time end = absl::Now();
  while (worker.StatsOf(kChat).running() < 4 &&
         absl::Now() - end < absl::Seconds(30)) {
    absl::SleepFor(absl::Milliseconds(5));
  }
  EXPECT_EQ(worker.StatsOf(kChat).running(), 4);
  for (auto& one : flood) one->Cancel();
  for (auto& one : flood) {
    const absl::Status status = one->Wait().status;
    if (status.code() == absl::StatusCode::kResourceExhausted) {
      EXPECT_THAT(std::string(Message(status)), HasSubstr("20 may"));
    } else {
      EXPECT_EQ(status.code(), absl::StatusCode::kCancelled) << status;
    }
  }
}

TEST(WorkerTenantsTest, ATenantsNameHasALimit) {
  NEED_MODELS();
  Worker worker(models->store(), Roomy());
  const Outcome outcome = worker.Run(AskAs(std::string(257, 'x'), "Hi", 1));
  EXPECT_EQ(outcome.status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(Message(outcome.status)), HasSubstr("256"));
}

TEST(WorkerTenantsTest, WhatFitsNoBudgetIsRefusedWithTheArithmetic) {
  NEED_MODELS();
  ModelHostOptions options = Roomy();
  options.kv_budget_bytes = int64_t{10} * 737'280;  // SmolLM2's pages
  Worker worker(models->store(), options);
  const Outcome outcome = worker.Run(Ask(kChat, "Hi", 1000));
  EXPECT_EQ(outcome.status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(Message(outcome.status)),
              HasSubstr("kv_budget_exceeded"));
  EXPECT_THAT(std::string(Message(outcome.status)),
              HasSubstr("1000 to generate need"));
  EXPECT_TRUE(worker.Run(Ask(kChat, "Hi", 100)).status.ok());
}

}  // namespace
}  // namespace conclave::workers
