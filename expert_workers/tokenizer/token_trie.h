// Finds added tokens (control and user-defined) in text: leftmost, longest.
#ifndef CONCLAVE_EXPERT_WORKERS_TOKENIZER_TOKEN_TRIE_H_
#define CONCLAVE_EXPERT_WORKERS_TOKENIZER_TOKEN_TRIE_H_

#include <absl/container/flat_hash_map.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace conclave::engine {

// Threads: Add first, then any number of readers.
class TokenTrie {
 public:
  // `control` tokens match only where the caller allows them.
  void Add(std::string_view text, int32_t id, bool control);

  struct Match {
    int32_t id = -1;  // -1: none
    size_t length = 0;
  };

  // The longest token that starts at `pos`. Control tokens must end at or
  // before `control_end` (no further than `pos`: none may match).
  Match LongestAt(std::string_view text, size_t pos, size_t control_end) const;

  // The first position >= `pos` where some token's first byte stands.
  size_t NextCandidate(std::string_view text, size_t pos) const {
    while (pos < text.size() && !starts_[static_cast<uint8_t>(text[pos])]) {
      ++pos;
    }
    return pos;
  }

 private:
  struct Node {
    int32_t id = -1;
    bool control = false;
  };
  std::vector<Node> nodes_ = std::vector<Node>(1);
  absl::flat_hash_map<uint64_t, uint32_t> edges_;  // node << 8 | byte -> node
  std::array<bool, 256> starts_{};
};

}  // namespace conclave::engine

#endif  // CONCLAVE_EXPERT_WORKERS_TOKENIZER_TOKEN_TRIE_H_
