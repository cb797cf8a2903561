#include "expert_workers/tokenizer/token_trie.h"

namespace conclave::engine {

void TokenTrie::Add(std::string_view text, int32_t id, bool control) {
  if (text.empty()) return;  // An empty token would match everywhere.
  starts_[static_cast<uint8_t>(text[0])] = true;
  uint32_t node = 0;
  for (const char c : text) {
    const uint64_t key = uint64_t{node} << 8 | static_cast<uint8_t>(c);
    const auto [edge, added] =
        edges_.try_emplace(key, static_cast<uint32_t>(nodes_.size()));
    if (added) nodes_.emplace_back();
    node = edge->second;
  }
  nodes_[node] = {id, control};
}

TokenTrie::Match TokenTrie::LongestAt(std::string_view text, size_t pos,
                                      size_t control_end) const {
  Match best;
  uint32_t node = 0;
  for (size_t i = pos; i < text.size(); ++i) {
    const uint64_t key = uint64_t{node} << 8 | static_cast<uint8_t>(text[i]);
    const auto edge = edges_.find(key);
    if (edge == edges_.end()) break;
    node = edge->second;
    const Node& here = nodes_[node];
    if (here.id >= 0 && (!here.control || i + 1 <= control_end)) {
      best = {here.id, i + 1 - pos};
    }
  }
  return best;
}

}  // namespace conclave::engine
