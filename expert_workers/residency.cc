#include "expert_workers/residency.h"

#include <algorithm>

namespace conclave::workers {
namespace {

bool IsIdle(const ModelView& model) {
  return model.active == 0 && model.waiting.empty();
}

// The cold models somebody waits for, longest waiting first.
std::vector<size_t> Wanted(const std::vector<ModelView>& models) {
  std::vector<size_t> wanted;
  for (size_t i = 0; i < models.size(); ++i) {
    if (models[i].state == Residency::kCold && !models[i].waiting.empty()) {
      wanted.push_back(i);
    }
  }
  std::sort(wanted.begin(), wanted.end(), [&](size_t a, size_t b) {
    return models[a].waiting.front() < models[b].waiting.front();
  });
  return wanted;
}

// The live models, in the order in which they have to go.
std::vector<size_t> Victims(const std::vector<ModelView>& models) {
  std::vector<size_t> victims;
  for (size_t i = 0; i < models.size(); ++i) {
    if (models[i].state == Residency::kLive) victims.push_back(i);
  }
  std::sort(victims.begin(), victims.end(), [&](size_t a, size_t b) {
    const bool idle_a = IsIdle(models[a]);
    const bool idle_b = IsIdle(models[b]);
    if (idle_a != idle_b) return idle_a;
    return models[a].last_used < models[b].last_used;
  });
  return victims;
}

}  // namespace

Decision Decide(const std::vector<ModelView>& models, Room budget, int turn) {
  Decision decision;
  decision.models.resize(models.size());
  Room free = budget;
  Room promised;  // what those who are leaving will give back
  for (const ModelView& model : models) {
    if (model.state == Residency::kCold) continue;
    free -= model.room;
    if (model.state == Residency::kLeaving) promised += model.room;
  }

  // Who presses whom: the first that does not fit. Those behind it wait, or
  // a large model would never find room between small ones.
  uint64_t pressing = 0;
  for (const size_t i : Wanted(models)) {
    if (free.Holds(models[i].room)) {
      decision.models[i].move = Decision::Move::kLoad;
      free -= models[i].room;
      continue;
    }
    Room reach = free;
    reach += promised;
    pressing = models[i].waiting.front();
    for (const size_t victim : Victims(models)) {
      if (reach.Holds(models[i].room)) break;
      decision.models[victim].pressed = true;
      reach += models[victim].room;
    }
    break;
  }

  for (size_t i = 0; i < models.size(); ++i) {
    const ModelView& model = models[i];
    Decision::PerModel& mine = decision.models[i];
    if (model.state != Residency::kLive) continue;
    const auto slots =
        static_cast<size_t>(std::max(0, model.max_active - model.active));
    size_t allowed = model.waiting.size();
    if (mine.pressed) {
      const auto in_order =
          static_cast<size_t>(std::lower_bound(model.waiting.begin(),
                                               model.waiting.end(), pressing) -
                              model.waiting.begin());
      const auto extra =
          static_cast<size_t>(std::max(0, turn - model.turn_used));
      allowed = std::min(allowed, in_order + extra);
      mine.admit = static_cast<int>(std::min(allowed, slots));
      mine.out_of_order = std::max(0, mine.admit - static_cast<int>(in_order));
    } else {
      mine.admit = static_cast<int>(std::min(allowed, slots));
    }
    const bool leaves = mine.pressed || (model.wants_out && IsIdle(model));
    if (leaves && model.active == 0 && mine.admit == 0) {
      mine.move = Decision::Move::kUnload;
    }
  }
  return decision;
}

}  // namespace conclave::workers
