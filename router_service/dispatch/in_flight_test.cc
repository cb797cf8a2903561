#include "router_service/dispatch/in_flight.h"

#include <gtest/gtest.h>

namespace conclave::router {
namespace {

TEST(InFlightTest, ARequestHoldsWhatItMayStillUse) {
  int changes = 0;
  InFlight in_flight([&] { ++changes; });
  EXPECT_TRUE(in_flight.IdleSince("a", 10));
  InFlight::Ticket ticket = in_flight.Begin();
  EXPECT_FALSE(in_flight.IdleSince("a", 10));  // its snapshot may be older
  ticket.SetRevision(9);
  EXPECT_FALSE(in_flight.IdleSince("a", 10));
  EXPECT_TRUE(in_flight.IdleSince("a", 9));  // it has seen the drain
  ticket.Narrow({"a", "b"});
  EXPECT_FALSE(in_flight.IdleSince("a", 10));
  EXPECT_TRUE(in_flight.IdleSince("c", 10));
  ticket.Answering("b", {"b", "base"});
  EXPECT_TRUE(in_flight.IdleSince("a", 10));
  EXPECT_FALSE(in_flight.IdleSince("base", 10));
  EXPECT_EQ(in_flight.Counts().at("b"), 1);
  InFlight::Ticket moved = std::move(ticket);
  EXPECT_FALSE(in_flight.IdleSince("b", 10));
  moved.End();
  moved.End();
  EXPECT_TRUE(in_flight.IdleSince("b", 10));
  EXPECT_EQ(changes, 3);
}

}  // namespace
}  // namespace conclave::router
