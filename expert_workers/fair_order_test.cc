#include "expert_workers/fair_order.h"

#include <gtest/gtest.h>

#include <map>
#include <set>
#include <string>
#include <vector>

namespace conclave::workers {
namespace {

TEST(FairOrderTest, OneTenantKeepsItsOrder) {
  FairOrder order;
  uint64_t last = 0;
  for (int i = 0; i < 100; ++i) {
    const uint64_t tag = order.Arrive("a", order.now(), 1 + i % 7);
    EXPECT_TRUE(i == 0 || tag > last);
    last = tag;
    if (i % 3 == 0) order.Begin(tag);
  }
}

// A queue served from its smallest tag.
class Queue {
 public:
  void Add(const std::string& tenant, int64_t cost) {
    const uint64_t floor =
        waiting_.empty() ? order_.now() : waiting_.begin()->first;
    const uint64_t tag = order_.Arrive(tenant, floor, cost);
    EXPECT_TRUE(waiting_.emplace(tag, std::pair(tenant, cost)).second);
  }
  std::string Serve() {
    const auto [tag, job] = *waiting_.begin();
    waiting_.erase(waiting_.begin());
    order_.Begin(tag);
    served_[job.first] += job.second;
    return job.first;
  }
  bool empty() const { return waiting_.empty(); }
  int64_t served(const std::string& tenant) { return served_[tenant]; }

 private:
  FairOrder order_;
  std::map<uint64_t, std::pair<std::string, int64_t>> waiting_;
  std::map<std::string, int64_t> served_;
};

TEST(FairOrderTest, AFloodDoesNotComeBeforeAGuest) {
  Queue queue;
  for (int i = 0; i < 1000; ++i) queue.Add("flood", 500);
  for (int i = 0; i < 10; ++i) EXPECT_EQ(queue.Serve(), "flood");
  queue.Add("guest", 100);
  // One may have the same virtual time; no more go before.
  const std::string first = queue.Serve();
  EXPECT_TRUE(first == "guest" || queue.Serve() == "guest");
}

TEST(FairOrderTest, SharesAreByCost) {
  Queue queue;
  for (int i = 0; i < 200; ++i) {
    queue.Add("large", 1000);
    queue.Add("small", 100);
    queue.Add("small", 100);
  }
  for (int i = 0; i < 220; ++i) queue.Serve();
  EXPECT_NEAR(static_cast<double>(queue.served("large")),
              static_cast<double>(queue.served("small")), 1100);
}

TEST(FairOrderTest, APauseEarnsNoCredit) {
  Queue queue;
  for (int i = 0; i < 100; ++i) queue.Add("busy", 100);
  for (int i = 0; i < 50; ++i) queue.Serve();
  for (int i = 0; i < 100; ++i) queue.Add("back", 100);
  for (int i = 0; i < 40; ++i) queue.Serve();
  EXPECT_NEAR(static_cast<double>(queue.served("back")), 2000, 200);
}

// Everybody who ever waits is served, though new tenants never stop coming.
TEST(FairOrderTest, NewTenantsDoNotStarveOldOnes) {
  Queue queue;
  for (int i = 0; i < 20; ++i) queue.Add("old", 100);
  int steps = 0;
  for (; queue.served("old") < 2000; ++steps) {
    ASSERT_LT(steps, 10000);
    queue.Add("new " + std::to_string(steps), 10);
    queue.Serve();
    if (steps % 50 == 0 && !queue.empty()) queue.Serve();
  }
}

}  // namespace
}  // namespace conclave::workers
