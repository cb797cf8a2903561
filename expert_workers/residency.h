// Which models hold memory, and who may start now: the rule by which models
// take turns when not all fit. A pure function of what is known; the host
// carries it out.
//
//   cold -> loading -> live -> leaving -> cold
//
// First come, first served across models, by the tags of fair_order.h, which
// are arrival numbers as long as there is one tenant. A model that waits and
// fits is loaded. One that does not fit chooses victims among the live: idle
// ones leave at once, least recently used first. A busy victim is pressed: it
// takes the requests that came before the waiting model's first, and `turn`
// later ones; then it runs dry and leaves. So nobody starves, and a switch is
// not paid for every request.
#ifndef CONCLAVE_EXPERT_WORKERS_RESIDENCY_H_
#define CONCLAVE_EXPERT_WORKERS_RESIDENCY_H_

#include <cstddef>
#include <cstdint>
#include <vector>

namespace conclave::workers {

enum class Residency : uint8_t { kCold, kLoading, kLive, kLeaving };

// Memory of both kinds, in bytes.
struct Room {
  int64_t weights = 0;
  int64_t kv = 0;

  bool Holds(const Room& other) const {
    return weights >= other.weights && kv >= other.kv;
  }
  Room& operator+=(const Room& other) {
    weights += other.weights;
    kv += other.kv;
    return *this;
  }
  Room& operator-=(const Room& other) {
    weights -= other.weights;
    kv -= other.kv;
    return *this;
  }
};

struct ModelView {
  Residency state = Residency::kCold;
  Room room;                      // what it takes, or would take
  int active = 0;                 // requests inside it
  int max_active = 0;             // as many may be
  std::vector<uint64_t> waiting;  // tags, ascending
  uint64_t last_used = 0;         // larger is more recent
  int turn_used = 0;       // requests taken out of order since it was pressed
  bool wants_out = false;  // asked to unload once idle
};

struct Decision {
  enum class Move : uint8_t { kNone, kLoad, kUnload };
  struct PerModel {
    Move move = Move::kNone;
    int admit = 0;  // so many of the waiting start now, oldest first
    bool pressed = false;
    int out_of_order = 0;  // of those admitted: later than who presses
  };
  std::vector<PerModel> models;  // as the views
};

Decision Decide(const std::vector<ModelView>& models, Room budget, int turn);

}  // namespace conclave::workers

#endif  // CONCLAVE_EXPERT_WORKERS_RESIDENCY_H_
