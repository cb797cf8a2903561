// Finds stop strings in streamed text, across token borders: text that might
// be the beginning of one is held back until it is known.
#ifndef CONCLAVE_EXPERT_WORKERS_ENGINE_STOP_MATCHER_H_
#define CONCLAVE_EXPERT_WORKERS_ENGINE_STOP_MATCHER_H_

#include <string>
#include <string_view>
#include <vector>

namespace conclave::engine {

class StopMatcher {
 public:
  explicit StopMatcher(std::vector<std::string> stops)
      : stops_(std::move(stops)) {}

  // Adds `text`; returns what may be shown now. Once a stop string is found,
  // that is the text before it (the earliest match counts), and nothing more.
  std::string Push(std::string_view text);
  // The text ended without one: returns what was held back.
  std::string Finish();

  bool stopped() const { return stopped_; }

 private:
  // Bytes at the end of held_ that may begin a stop string.
  size_t PossibleSuffix() const;

  const std::vector<std::string> stops_;
  std::string held_;
  bool stopped_ = false;
};

}  // namespace conclave::engine

#endif  // CONCLAVE_EXPERT_WORKERS_ENGINE_STOP_MATCHER_H_
