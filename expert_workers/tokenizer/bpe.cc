#include "expert_workers/tokenizer/bpe.h"

#include <functional>
#include <limits>
#include <queue>

#include "base/check.h"
#include "expert_workers/tokenizer/unicode.h"

namespace conclave::engine {
namespace {

// Longer words go through the heap. Up to here the quadratic scan over a
// small array wins (words of a few bytes are the rule).
constexpr size_t kShortWord = 48;
constexpr uint32_t kNoRank = std::numeric_limits<uint32_t>::max();

uint64_t PairKey(int32_t left, int32_t right) {
  return uint64_t{static_cast<uint32_t>(left)} << 32 |
         static_cast<uint32_t>(right);
}

// Printable character -> byte; -1 elsewhere. GPT-2's table: printable Latin-1
// stands for itself, the other 68 bytes follow from U+0100.
const std::array<int16_t, 512>& PrintableToByte() {
  static const std::array<int16_t, 512> table = [] {
    std::array<int16_t, 512> bytes;
    bytes.fill(-1);
    size_t next = 256;
    for (int byte = 0; byte < 256; ++byte) {
      const bool printable = (byte >= 33 && byte <= 126) ||
                             (byte >= 161 && byte <= 172) || byte >= 174;
      bytes[printable ? static_cast<size_t>(byte) : next++] =
          static_cast<int16_t>(byte);
    }
    return bytes;
  }();
  return table;
}

}  // namespace

std::optional<std::string> BytesOfPrintable(std::string_view text) {
  const auto& table = PrintableToByte();
  std::string bytes;
  bytes.reserve(text.size());
  for (size_t pos = 0; pos < text.size();) {
    const CodePoint c = DecodeUtf8(text, pos);
    if (c.value >= table.size() || table[c.value] < 0) return std::nullopt;
    bytes += static_cast<char>(table[c.value]);
    pos += c.length;
  }
  return bytes;
}

absl::StatusOr<std::unique_ptr<BytePairMerger>> BytePairMerger::Create(
    std::vector<std::string> words, const std::vector<std::string>& merges,
    bool whole_words_first) {
  auto merger = std::unique_ptr<BytePairMerger>(new BytePairMerger);
  merger->words_ = std::move(words);
  merger->whole_words_first_ = whole_words_first;
  merger->byte_ids_.fill(-1);
  merger->ids_.reserve(merger->words_.size());
  for (size_t id = 0; id < merger->words_.size(); ++id) {
    const std::string& word = merger->words_[id];
    if (word.empty()) continue;
    const auto [entry, added] =
        merger->ids_.try_emplace(word, static_cast<int32_t>(id));
    if (!added) {
      return InvalidArgument("tokens {} and {} are alike", entry->second, id);
    }
    if (word.size() == 1) {
      merger->byte_ids_[static_cast<uint8_t>(word[0])] =
          static_cast<int32_t>(id);
    }
  }
  merger->merges_.reserve(merges.size());
  for (size_t rank = 0; rank < merges.size(); ++rank) {
    const std::string_view line = merges[rank];
    const size_t space = line.find(' ');
    if (space == std::string_view::npos) {
      return InvalidArgument("merge {} has no space", rank);
    }
    const auto left = BytesOfPrintable(line.substr(0, space));
    const auto right = BytesOfPrintable(line.substr(space + 1));
    if (!left || !right) {
      return InvalidArgument("merge {} holds a character that is no byte",
                             rank);
    }
    const auto left_id = merger->ids_.find(*left);
    const auto right_id = merger->ids_.find(*right);
    const auto merged_id = merger->ids_.find(*left + *right);
    const auto end = merger->ids_.end();
    if (left_id == end || right_id == end || merged_id == end) {
      return InvalidArgument("merge {} names a token that does not exist",
                             rank);
    }
    merger->merges_.try_emplace(
        PairKey(left_id->second, right_id->second),
        Merge{static_cast<uint32_t>(rank), merged_id->second});
  }
  merger->is_its_own_ =
      std::make_unique<std::atomic<uint8_t>[]>(merger->words_.size());
  return merger;
}

const BytePairMerger::Merge* BytePairMerger::FindMerge(int32_t left,
                                                       int32_t right) const {
  const auto found = merges_.find(PairKey(left, right));
  return found == merges_.end() ? nullptr : &found->second;
}

void BytePairMerger::Encode(std::string_view word,
                            std::vector<int32_t>* ids) const {
  const auto whole = ids_.find(word);
  if (whole == ids_.end()) {
    return word.size() <= kShortWord ? MergeShort(word, ids)
                                     : MergeLong(word, ids);
  }
  const int32_t id = whole->second;
  std::atomic<uint8_t>& known = is_its_own_[static_cast<size_t>(id)];
  uint8_t own = known.load(std::memory_order_relaxed);
  if (whole_words_first_ || own == kYes) return ids->push_back(id);
  const size_t before = ids->size();
  word.size() <= kShortWord ? MergeShort(word, ids) : MergeLong(word, ids);
  if (own != kUnknown) return;
  // Every thread finds the same answer, so the race is harmless.
  own = ids->size() == before + 1 && ids->back() == id ? kYes : kNo;
  known.store(own, std::memory_order_relaxed);
}

void BytePairMerger::MergeShort(std::string_view word,
                                std::vector<int32_t>* ids) const {
  // symbols[i] and symbols[i+1] would merge at ranks[i] into merged[i].
  std::array<int32_t, kShortWord> symbols;
  std::array<int32_t, kShortWord> merged;
  std::array<uint32_t, kShortWord> ranks;
  size_t count = 0;
  for (const char c : word) {
    const int32_t id = byte_ids_[static_cast<uint8_t>(c)];
    if (id >= 0) symbols[count++] = id;
  }
  const auto look = [&](size_t i) {
    const Merge* merge = FindMerge(symbols[i], symbols[i + 1]);
    ranks[i] = merge ? merge->rank : kNoRank;
    merged[i] = merge ? merge->id : -1;
  };
  for (size_t i = 0; i + 1 < count; ++i) look(i);
  while (count > 1) {
    size_t best = 0;
    for (size_t i = 1; i + 1 < count; ++i) {
      if (ranks[i] < ranks[best]) best = i;
    }
    if (ranks[best] == kNoRank) break;
    symbols[best] = merged[best];
    for (size_t i = best + 1; i + 1 < count; ++i) {
      symbols[i] = symbols[i + 1];
      ranks[i] = ranks[i + 1];
      merged[i] = merged[i + 1];
    }
    --count;
    if (best + 1 < count) look(best);
    if (best > 0) look(best - 1);
  }
  ids->insert(ids->end(), symbols.begin(),
              symbols.begin() + static_cast<ptrdiff_t>(count));
}

void BytePairMerger::MergeLong(std::string_view word,
                               std::vector<int32_t>* ids) const {
  std::vector<Symbol> symbols;
  symbols.reserve(word.size());
  for (const char c : word) {
    const int32_t id = byte_ids_[static_cast<uint8_t>(c)];
    if (id < 0) continue;
    const auto index = static_cast<int32_t>(symbols.size());
    symbols.push_back({id, index - 1, index + 1});
  }
  if (symbols.empty()) return;
  symbols.back().next = -1;

  std::priority_queue<Candidate, std::vector<Candidate>,
                      std::greater<Candidate>>
      queue;
  const auto consider = [&](int32_t left) {
    if (left < 0) return;
    const Symbol& symbol = symbols[static_cast<size_t>(left)];
    if (symbol.next < 0) return;
    const int32_t right_id = symbols[static_cast<size_t>(symbol.next)].id;
    const Merge* merge = FindMerge(symbol.id, right_id);
    if (merge == nullptr) return;
    queue.push({merge->rank, left, symbol.id, right_id, merge->id});
  };
  for (size_t i = 0; i < symbols.size(); ++i) {
    consider(static_cast<int32_t>(i));
  }
  while (!queue.empty()) {
    const Candidate top = queue.top();
    queue.pop();
    Symbol& left = symbols[static_cast<size_t>(top.left)];
    if (left.id != top.left_id || left.next < 0) continue;
    Symbol& right = symbols[static_cast<size_t>(left.next)];
    if (right.id != top.right_id) continue;
    left.id = top.merged_id;
    right.id = -1;  // Dead: candidates that name it are stale.
    left.next = right.next;
    if (left.next >= 0) {
      symbols[static_cast<size_t>(left.next)].previous = top.left;
    }
    consider(left.previous);
    consider(top.left);
  }
  for (int32_t i = 0; i >= 0; i = symbols[static_cast<size_t>(i)].next) {
    ids->push_back(symbols[static_cast<size_t>(i)].id);
  }
}

}  // namespace conclave::engine
