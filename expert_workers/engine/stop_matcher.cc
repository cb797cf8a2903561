#include "expert_workers/engine/stop_matcher.h"

#include <algorithm>
#include <utility>

namespace conclave::engine {

std::string StopMatcher::Push(std::string_view text) {
  if (stopped_) return {};
  held_ += text;
  size_t at = std::string::npos;
  for (const std::string& stop : stops_) at = std::min(at, held_.find(stop));
  size_t shown = 0;
  if (at != std::string::npos) {
    stopped_ = true;
    shown = at;
  } else {
    shown = held_.size() - PossibleSuffix();
  }
  std::string out = held_.substr(0, shown);
  if (stopped_) {
    held_.clear();
  } else {
    held_.erase(0, shown);
  }
  return out;
}

std::string StopMatcher::Finish() { return std::exchange(held_, {}); }

size_t StopMatcher::PossibleSuffix() const {
  size_t longest = 0;
  for (const std::string& stop : stops_) {
    size_t length = std::min(stop.size() - 1, held_.size());
    for (; length > longest; --length) {
      if (held_.ends_with(std::string_view(stop).substr(0, length))) {
        longest = length;
      }
    }
  }
  return longest;
}

}  // namespace conclave::engine
