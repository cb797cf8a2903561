// Whose turn it is: virtual token counters, as in "Fairness in Serving Large
// Language Models" (Sheng et al., OSDI 2024).
//
// A tenant's counter grows by what is computed for it; the tenant with the
// smallest counter comes next. One that comes back after a pause starts no
// lower than the least of those who stayed: a pause earns nothing. So each of
// n tenants with work gets its n-th part, however many requests another
// sends, and nobody waits for ever.
//
// Threads: none; the engine's own.
#ifndef CONCLAVE_EXPERT_WORKERS_ENGINE_TENANTS_H_
#define CONCLAVE_EXPERT_WORKERS_ENGINE_TENANTS_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "expert_workers/engine/sequence.h"

namespace conclave::engine {

struct Tenant {
  int64_t served = 0;              // the counter
  std::vector<Sequence*> waiting;  // by key
  std::vector<Sequence*> running;  // by key

  bool present() const { return !waiting.empty() || !running.empty(); }
};

// A sequence is outside, waiting or running:
//
//   Enter -> waiting <- Start, Stop -> running -> Leave
class Tenants {
 public:
  void EnterWaiting(Sequence* sequence);
  void EnterRunning(Sequence* sequence);
  void Start(Sequence* sequence);
  void Stop(Sequence* sequence);
  // A sequence that is outside is ignored.
  void Leave(Sequence* sequence);

  void Charge(const Sequence& sequence, int64_t tokens);

  // Of the tenants with somebody waiting: one with nothing running before the
  // others, then the one that was served least. nullptr: nobody waits.
  Tenant* NextWaiting();
  int64_t num_waiting() const;
  // Those with somebody running, least served first.
  std::vector<Tenant*> Running();

  // The tenant of a sequence that is here.
  Tenant& Of(const Sequence& sequence);

 private:
  // The sequence's tenant, its counter raised if it was away.
  Tenant& Enter(const Sequence& sequence);

  std::map<std::string, Tenant> tenants_;
};

// Keeps `list` in order of keys.
void InsertByKey(std::vector<Sequence*>& list, Sequence* sequence);

}  // namespace conclave::engine

#endif  // CONCLAVE_EXPERT_WORKERS_ENGINE_TENANTS_H_
