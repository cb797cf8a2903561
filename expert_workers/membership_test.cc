#include "expert_workers/membership.h"

#include <gtest/gtest.h>

#include <atomic>
#include <deque>
#include <mutex>
#include <thread>

namespace conclave::workers {
namespace {

// A registry with one worker, in memory, whose answers the test can change.
class FakeRegistryClient final : public registry::RegistryClient {
 public:
  absl::StatusOr<registry::WorkerRecord> JoinWorker(
      const std::string& name, const std::string& address,
      const std::vector<std::string>& models, absl::Time) override {
    std::lock_guard lock(mutex_);
    ++joins;
    if (unreachable) return Unavailable("nobody there");
    worker_ = {.name = name,
               .address = address,
               .epoch = ++epoch_,
               .lease_expires_unix_ms = LeaseEnd(),
               .models = models};
    joined_ = true;
    return worker_;
  }
  absl::StatusOr<registry::WorkerRecord> HeartbeatWorker(
      const std::string&, uint64_t epoch,
      const std::vector<std::string>& models, absl::Time) override {
    std::lock_guard lock(mutex_);
    ++heartbeats;
    if (unreachable) return Unavailable("nobody there");
    if (!joined_) return NotFound("the lease ran out; join again");
    if (epoch != epoch_) return Aborted("stale");
    worker_.models = models;
    worker_.lease_expires_unix_ms = LeaseEnd();
    return worker_;
  }
  absl::Status LeaveWorker(const std::string&, uint64_t epoch,
                           absl::Time) override {
    std::lock_guard lock(mutex_);
    if (epoch == epoch_) joined_ = false;
    return absl::OkStatus();
  }

  void Expire() {
    std::lock_guard lock(mutex_);
    joined_ = false;
  }
  void ReplaceByAnother() {
    std::lock_guard lock(mutex_);
    ++epoch_;
  }
  bool joined() const {
    std::lock_guard lock(mutex_);
    return joined_;
  }
  std::vector<std::string> models() const {
    std::lock_guard lock(mutex_);
    return worker_.models;
  }

  void OnChange(std::function<void(std::shared_ptr<const registry::Snapshot>)>
                    callback) override {
    std::lock_guard lock(mutex_);
    on_change_ = std::move(callback);
  }
  void Announce(const std::string& model) {
    auto snapshot = std::make_shared<registry::Snapshot>();
    snapshot->models[model].name = model;
    std::lock_guard lock(mutex_);
    on_change_(std::move(snapshot));
  }

  std::atomic<int> lease_ms{150};
  std::atomic<int> joins{0};
  std::atomic<int> heartbeats{0};
  std::atomic<bool> unreachable{false};

  // Not used by a membership.
  std::shared_ptr<const registry::Snapshot> snapshot() const override {
    return std::make_shared<const registry::Snapshot>();
  }
  absl::Status WaitUntilReady(absl::Time) override { return absl::OkStatus(); }
  absl::StatusOr<registry::ExpertSpec> RegisterExpert(
      const registry::ExpertSpec&, const std::string&, absl::Time) override {
    return NotUsed();
  }
  absl::StatusOr<registry::ExpertSpec> DrainExpert(const std::string&,
                                                   const std::string&,
                                                   absl::Time) override {
    return NotUsed();
  }
  absl::Status RemoveExpert(const std::string&, uint64_t, const std::string&,
                            absl::Time) override {
    return NotUsed();
  }
  absl::StatusOr<std::vector<registry::ExpertSpec>> ListExperts(
      absl::Time) override {
    return NotUsed();
  }
  absl::StatusOr<registry::ModelRecord> ImportModel(
      const std::string&, const std::string&, const std::string&,
      const std::function<void(int64_t, int64_t)>&, absl::Time) override {
    return NotUsed();
  }
  absl::StatusOr<std::vector<registry::ModelRecord>> ListModels(
      absl::Time) override {
    return NotUsed();
  }
  absl::Status RemoveModel(const std::string&, const std::string&,
                           const std::string&, absl::Time) override {
    return NotUsed();
  }
  absl::StatusOr<registry::AliasRecord> SetAlias(const std::string&,
                                                 const std::string&, uint64_t,
                                                 const std::string&,
                                                 absl::Time) override {
    return NotUsed();
  }
  absl::Status RemoveAlias(const std::string&, uint64_t, const std::string&,
                           absl::Time) override {
    return NotUsed();
  }

 private:
  static absl::Status NotUsed() { return Unimplemented("not used"); }
  int64_t LeaseEnd() const {
    return absl::ToUnixMillis(absl::Now() +
                              absl::Milliseconds(lease_ms.load()));
  }
  mutable std::mutex mutex_;
  uint64_t epoch_ = 0;
  bool joined_ = false;
  registry::WorkerRecord worker_;
  std::function<void(std::shared_ptr<const registry::Snapshot>)> on_change_;
};

template <typename Predicate>
bool Eventually(const Predicate& predicate) {
  for (int i = 0; i < 5000; ++i) {
    if (predicate()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return false;
}

class MembershipTest : public testing::Test {
 protected:
  std::unique_ptr<Membership> Join() {
    return Membership::Create(&registry_,
                              {.name = "box",
                               .address = "127.0.0.1:1",
                               .models =
                                   [this] {
                                     std::lock_guard lock(mutex_);
                                     return models_;
                                   },
                               .on_change =
                                   [this](const absl::Status& status) {
                                     std::lock_guard lock(mutex_);
                                     changes_.push_back(status.code());
                                   }});
  }
  FakeRegistryClient registry_;
  std::mutex mutex_;
  std::vector<std::string> models_ = {"v1"};
  std::vector<absl::StatusCode> changes_;
};

TEST_F(MembershipTest, JoinsKeepsTheLeaseAndLeaves) {
  auto membership = Join();
  EXPECT_TRUE(Eventually([&] { return membership->status().ok(); }));
  {
    std::lock_guard lock(mutex_);
    models_ = {"v1", "v2"};
  }
  EXPECT_TRUE(Eventually([&] { return registry_.models().size() == 2; }));
  EXPECT_TRUE(Eventually([&] { return registry_.heartbeats > 5; }));
  EXPECT_EQ(registry_.joins, 1);
  membership.reset();
  EXPECT_FALSE(registry_.joined());
}

TEST_F(MembershipTest, ANewModelDoesNotWaitForTheNextHeartbeat) {
  registry_.lease_ms = 600'000;
  auto membership = Join();
  EXPECT_TRUE(Eventually([&] { return membership->status().ok(); }));
  {
    std::lock_guard lock(mutex_);
    models_ = {"v1", "v2"};
  }
  registry_.Announce("new");
  EXPECT_TRUE(Eventually([&] { return registry_.models().size() == 2; }));
  EXPECT_EQ(registry_.heartbeats, 1);
  // Nothing new about the models: nothing to tell.
  registry_.Announce("new");
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  EXPECT_EQ(registry_.heartbeats, 1);
  membership.reset();
  registry_.Announce("late");  // Nobody listens, and nothing breaks.
}

TEST_F(MembershipTest, JoinsAgainAfterTheLeaseIsLost) {
  auto membership = Join();
  EXPECT_TRUE(Eventually([&] { return membership->status().ok(); }));
  registry_.Expire();
  EXPECT_TRUE(Eventually([&] { return registry_.joins == 2; }));
  EXPECT_TRUE(Eventually([&] { return membership->status().ok(); }));
}

TEST_F(MembershipTest, WaitsForARegistryThatIsAway) {
  registry_.unreachable = true;
  auto membership = Join();
  EXPECT_TRUE(Eventually([&] { return registry_.joins >= 3; }));
  EXPECT_EQ(membership->status().code(), absl::StatusCode::kUnavailable);
  registry_.unreachable = false;
  EXPECT_TRUE(Eventually([&] { return membership->status().ok(); }));
  // And when it goes away later.
  registry_.unreachable = true;
  EXPECT_TRUE(Eventually([&] { return !membership->status().ok(); }));
  registry_.unreachable = false;
  EXPECT_TRUE(Eventually([&] { return membership->status().ok(); }));
}

TEST_F(MembershipTest, StaysOutWhenReplaced) {
  auto membership = Join();
  EXPECT_TRUE(Eventually([&] { return membership->status().ok(); }));
  registry_.ReplaceByAnother();
  EXPECT_TRUE(Eventually([&] {
    return membership->status().code() == absl::StatusCode::kAborted;
  }));
  const int joins = registry_.joins;
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  EXPECT_EQ(registry_.joins, joins);
  membership.reset();
  EXPECT_TRUE(registry_.joined()) << "the other one is not thrown out";
  std::lock_guard lock(mutex_);
  EXPECT_EQ(changes_, (std::vector<absl::StatusCode>{
                          absl::StatusCode::kOk, absl::StatusCode::kAborted}));
}

}  // namespace
}  // namespace conclave::workers
