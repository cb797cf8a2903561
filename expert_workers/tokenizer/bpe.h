// Byte-pair merging: the bytes of one word to token ids. Knows the vocabulary
// and the ranks of the merges, nothing of Unicode or of special tokens.
#ifndef CONCLAVE_EXPERT_WORKERS_TOKENIZER_BPE_H_
#define CONCLAVE_EXPERT_WORKERS_TOKENIZER_BPE_H_

#include <absl/container/flat_hash_map.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace conclave::engine {

// GPT-2's vocabularies write each byte as a printable character. Returns the
// bytes of `text`; none when a character of it stands for no byte.
std::optional<std::string> BytesOfPrintable(std::string_view text);

class BytePairMerger {
 public:
  // words[id] is the token's bytes; empty: the id takes no part in merging
  // (control, user-defined, unused). `merges` are the model's "left right"
  // lines, best first, in the printable mapping. With `whole_words_first` a
  // word that is a token becomes it at once (Llama 3's ignore_merges).
  //   INVALID_ARGUMENT  two tokens alike; a merge that names no token
  static absl::StatusOr<std::unique_ptr<BytePairMerger>> Create(
      std::vector<std::string> words, const std::vector<std::string>& merges,
      bool whole_words_first);

  // Appends the ids of `word`. A byte without a token is dropped, as the
  // reference does. O(n log n) in the word's bytes.
  // Threads: any number at once.
  void Encode(std::string_view word, std::vector<int32_t>* ids) const;

 private:
  struct Merge {
    uint32_t rank;
    int32_t id;
  };
  struct Symbol {
    int32_t id;
    int32_t previous;
    int32_t next;
  };
  // A merge that may be stale by the time it is popped.
  struct Candidate {
    uint32_t rank;
    int32_t left;  // index of the left symbol
    int32_t left_id;
    int32_t right_id;
    int32_t merged_id;
    bool operator>(const Candidate& other) const {
      return rank != other.rank ? rank > other.rank : left > other.left;
    }
  };

  BytePairMerger() = default;
  const Merge* FindMerge(int32_t left, int32_t right) const;
  void MergeShort(std::string_view word, std::vector<int32_t>* ids) const;
  void MergeLong(std::string_view word, std::vector<int32_t>* ids) const;

  std::vector<std::string> words_;
  absl::flat_hash_map<std::string_view, int32_t> ids_;  // views into words_
  absl::flat_hash_map<uint64_t, Merge> merges_;         // left << 32 | right
  std::array<int32_t, 256> byte_ids_{};
  bool whole_words_first_ = false;

  // Whether merging the token's own bytes gives the token back, found on its
  // first use: then a word that is a token needs no merging. Most words are.
  enum : uint8_t { kUnknown = 0, kYes = 1, kNo = 2 };
  std::unique_ptr<std::atomic<uint8_t>[]> is_its_own_;
};

}  // namespace conclave::engine

#endif  // CONCLAVE_EXPERT_WORKERS_TOKENIZER_BPE_H_
