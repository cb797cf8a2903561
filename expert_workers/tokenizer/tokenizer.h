// Text to token ids and back, for one model.
//
// What a user typed never becomes a control token: control strings are
// recognised only in text the caller vouches for (SpecialTokens::kParse, or
// trusted pieces). User-defined tokens (added words such as <tool_call>, which
// the model's makers did not mark as control) are recognised everywhere, as
// the reference implementation does.
//
// Threads: all methods may run concurrently.
#ifndef CONCLAVE_EXPERT_WORKERS_TOKENIZER_TOKENIZER_H_
#define CONCLAVE_EXPERT_WORKERS_TOKENIZER_TOKENIZER_H_

#include <absl/container/flat_hash_map.h>

#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "expert_workers/tokenizer/piece.h"
#include "expert_workers/tokenizer/token_trie.h"
#include "expert_workers/weights/model_spec.h"

namespace conclave::engine {

enum class SpecialTokens : uint8_t {
  kAsText,  // control strings are plain text: user input
  kParse,   // control strings are control tokens: trusted text only
};

class Tokenizer {
 public:
  static constexpr size_t kNoLimit = std::numeric_limits<size_t>::max();

  //   INVALID_ARGUMENT  sizes that disagree, ids out of range, tokens alike,
  //                     merges of unknown tokens, an unknown split rule
  //   FAILED_PRECONDITION  the sentencepiece library is not on this machine
  static absl::StatusOr<std::unique_ptr<Tokenizer>> Create(
      const weights::TokenizerSpec& spec);

  virtual ~Tokenizer() = default;
  Tokenizer(const Tokenizer&) = delete;
  Tokenizer& operator=(const Tokenizer&) = delete;

  // The ids of `text` alone: no BOS, no [CLS]. Any bytes are accepted.
  std::vector<int32_t> Encode(std::string_view text, SpecialTokens mode) const;

  // The ids of the joined pieces. Control tokens are recognised within
  // trusted stretches; everything else is tokenised as one run across piece
  // borders, so the result is that of the joined text whenever the untrusted
  // text holds no control string.
  std::vector<int32_t> EncodePieces(std::span<const Piece> pieces) const;

  // Untrusted text with what the model expects around it: BOS if the model
  // adds one, [CLS] ... [SEP] for an encoder. At most `max_tokens` ids; the
  // text's end is cut, not the frame.
  std::vector<int32_t> EncodeFramed(std::string_view text,
                                    size_t max_tokens = kNoLimit) const;

  // The joined bytes of `ids` as valid UTF-8 (U+FFFD for what is not).
  // Control tokens are left out unless asked for.
  std::string Decode(std::span<const int32_t> ids,
                     bool with_control = false) const;

  // The bytes a token stands for, a control token's text included; "" for an
  // id out of range. Lives as long as the tokenizer.
  std::string_view TokenBytes(int32_t id) const;

  // Control, unknown and unused tokens: not text for a reader.
  bool IsControl(int32_t id) const;

  // The id of a token by its exact bytes.
  std::optional<int32_t> FindToken(std::string_view bytes) const;

  // True for eos and every further id that ends a turn.
  bool IsEndOfTurn(int32_t id) const;

  int32_t vocab_size() const { return static_cast<int32_t>(bytes_.size()); }
  int32_t bos_id() const { return bos_id_; }  // -1: the model has none
  int32_t eos_id() const { return eos_id_; }
  bool add_bos() const { return add_bos_; }
  // eos first, then the others; without duplicates.
  const std::vector<int32_t>& end_of_turn_ids() const {
    return end_of_turn_ids_;
  }

 protected:
  Tokenizer() = default;

  // Appends the ids of text that holds no added token.
  virtual void EncodePlain(std::string_view text,
                           std::vector<int32_t>* ids) const = 0;

 private:
  // A stretch [begin, end) of trusted text.
  struct Stretch {
    size_t begin;
    size_t end;
  };

  absl::Status Init(const weights::TokenizerSpec& spec,
                    std::vector<std::string> bytes);
  std::vector<int32_t> EncodeStretches(std::string_view text,
                                       std::span<const Stretch> trusted) const;

  std::vector<std::string> bytes_;
  std::vector<bool> control_;
  absl::flat_hash_map<std::string_view, int32_t> ids_;  // views into bytes_
  TokenTrie added_;
  int32_t bos_id_ = -1;
  int32_t eos_id_ = -1;
  int32_t cls_id_ = -1;
  int32_t sep_id_ = -1;
  bool add_bos_ = false;
  std::vector<int32_t> end_of_turn_ids_;
};

}  // namespace conclave::engine

#endif  // CONCLAVE_EXPERT_WORKERS_TOKENIZER_TOKENIZER_H_
