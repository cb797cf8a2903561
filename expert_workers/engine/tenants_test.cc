#include "expert_workers/engine/tenants.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>

namespace conclave::engine {
namespace {

std::unique_ptr<Sequence> Make(const std::string& tenant, uint64_t arrival) {
  auto sequence = std::make_unique<Sequence>();
  sequence->tenant = tenant;
  sequence->arrival = arrival;
  return sequence;
}

TEST(TenantsTest, TheLeastServedComesNextInOrderOfArrival) {
  Tenants tenants;
  EXPECT_EQ(tenants.NextWaiting(), nullptr);
  const auto a2 = Make("a", 2);
  const auto a1 = Make("a", 1);
  const auto b3 = Make("b", 3);
  for (Sequence* s : {a2.get(), a1.get(), b3.get()}) tenants.EnterWaiting(s);
  EXPECT_EQ(tenants.num_waiting(), 3);
  ASSERT_NE(tenants.NextWaiting(), nullptr);
  EXPECT_EQ(tenants.NextWaiting()->waiting.front(), a1.get());
  tenants.Start(a1.get());
  tenants.Charge(*a1, 10);
  EXPECT_EQ(tenants.NextWaiting()->waiting.front(), b3.get());
  tenants.Start(b3.get());
  tenants.Charge(*b3, 30);
  const auto c4 = Make("c", 4);
  tenants.EnterWaiting(c4.get());
  tenants.Charge(*c4, 1000);
  // Served most, but nothing of it runs.
  EXPECT_EQ(tenants.NextWaiting()->waiting.front(), c4.get());
  tenants.Leave(c4.get());
  EXPECT_EQ(tenants.NextWaiting()->waiting.front(), a2.get());
  ASSERT_EQ(tenants.Running().size(), 2u);
  EXPECT_EQ(tenants.Running()[0]->running[0], a1.get());
  EXPECT_EQ(tenants.Running()[1]->running[0], b3.get());
  tenants.Stop(a1.get());
  EXPECT_EQ(tenants.NextWaiting()->waiting.front(), a1.get());
  EXPECT_EQ(tenants.num_waiting(), 2);
  for (Sequence* s : {a2.get(), a1.get(), b3.get()}) tenants.Leave(s);
  tenants.Leave(a1.get());  // nothing
  EXPECT_EQ(tenants.NextWaiting(), nullptr);
  EXPECT_TRUE(tenants.Running().empty());
}

TEST(TenantsTest, APauseEarnsNothing) {
  Tenants tenants;
  const auto a = Make("a", 1);
  tenants.EnterWaiting(a.get());
  tenants.Charge(*a, 1000);
  // b has done nothing yet: it starts where a is, not at 0.
  const auto b = Make("b", 2);
  tenants.EnterWaiting(b.get());
  EXPECT_EQ(tenants.Of(*b).served, 1000);
  tenants.Charge(*b, 500);
  tenants.Leave(b.get());
  tenants.Charge(*a, 100);
  // What it was served before counts when it comes back soon.
  tenants.EnterWaiting(b.get());
  EXPECT_EQ(tenants.Of(*b).served, 1500);
  tenants.Leave(b.get());
  tenants.Charge(*a, 5000);
  tenants.EnterRunning(b.get());
  EXPECT_EQ(tenants.Of(*b).served, 6100);
  // Moving about is no pause: the least served keeps its counter.
  tenants.Charge(*b, 50);
  tenants.Stop(b.get());
  tenants.Start(b.get());
  EXPECT_EQ(tenants.Of(*b).served, 6150);
  tenants.Leave(b.get());
  tenants.Leave(a.get());
  // Nobody was here: all start anew.
  tenants.EnterWaiting(b.get());
  EXPECT_EQ(tenants.Of(*b).served, 0);
  tenants.Leave(b.get());
}

}  // namespace
}  // namespace conclave::engine
