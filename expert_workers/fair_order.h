// The order in which waiting requests begin: start-time fair queueing (Goyal
// et al., SIGCOMM 1996) over tenants.
//
// A request's tag is where its tenant has come to in virtual time, which runs
// on by the cost of each of its requests. Smaller tags begin first, so tenants
// take turns by cost and not by number, and one tenant's requests keep their
// order. A tenant that had nothing to do starts at the floor, the tag of who
// is next: at the front, but with no credit.
//
// Threads: none; guarded by the caller.
#ifndef CONCLAVE_EXPERT_WORKERS_FAIR_ORDER_H_
#define CONCLAVE_EXPERT_WORKERS_FAIR_ORDER_H_

#include <cstdint>
#include <map>
#include <string>

namespace conclave::workers {

class FairOrder {
 public:
  // The tag of a request that arrives now and joins a queue whose first has
  // the tag `floor`; unique. `cost` >= 1, in tokens.
  uint64_t Arrive(const std::string& tenant, uint64_t floor, int64_t cost);
  // The request with `tag` begins.
  void Begin(uint64_t tag);
  // The largest tag that has begun: the floor of an empty queue.
  uint64_t now() const { return now_; }

 private:
  // A tag is virtual time, then arrival, so that no two are equal.
  static constexpr int kArrivalBits = 20;

  uint64_t now_ = 0;
  uint64_t arrivals_ = 0;
  std::map<std::string, uint64_t> next_;  // virtual time of a tenant's next
};

}  // namespace conclave::workers

#endif  // CONCLAVE_EXPERT_WORKERS_FAIR_ORDER_H_
