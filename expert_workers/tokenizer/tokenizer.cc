#include "expert_workers/tokenizer/tokenizer.h"

#include <algorithm>

#include "expert_workers/tokenizer/bpe.h"
#include "expert_workers/tokenizer/byte_level_bpe.h"
#include "expert_workers/tokenizer/sentencepiece.h"
#include "expert_workers/tokenizer/unicode.h"
#include "expert_workers/tokenizer/wordpiece.h"

namespace conclave::engine {
namespace {

using weights::TokenizerKind;
using weights::TokenizerSpec;
using weights::TokenType;

// Largest public vocabularies hold 256 K tokens; an added token is a word.
constexpr size_t kMaxTokens = size_t{1} << 24;
constexpr size_t kMaxTokenBytes = size_t{1} << 16;
constexpr size_t kMaxAddedTokenBytes = 512;

absl::Status CheckId(std::string_view name, int32_t id, size_t count) {
  if (id < -1 || (id >= 0 && static_cast<size_t>(id) >= count)) {
    return InvalidArgument("{} is {}; the vocabulary has {} tokens", name, id,
                           count);
  }
  return absl::OkStatus();
}

absl::Status CheckSpec(const TokenizerSpec& spec) {
  const size_t count = spec.tokens.size();
  if (count == 0 || count > kMaxTokens) {
    return InvalidArgument("a vocabulary of {} tokens; 1..{} are possible",
                           count, kMaxTokens);
  }
  if (spec.types.size() != count) {
    return InvalidArgument("{} token types for {} tokens", spec.types.size(),
                           count);
  }
  for (size_t id = 0; id < count; ++id) {
    const TokenType type = spec.types[id];
    if (type < TokenType::kNormal || type > TokenType::kByte) {
      return InvalidArgument("token {} has type {}; 1..6 exist", id,
                             static_cast<int>(type));
    }
    const bool added =
        type == TokenType::kControl || type == TokenType::kUserDefined;
    const size_t limit = added ? kMaxAddedTokenBytes : kMaxTokenBytes;
    if (spec.tokens[id].size() > limit) {
      return InvalidArgument("token {} has {} bytes; at most {} are possible",
                             id, spec.tokens[id].size(), limit);
    }
  }
  RETURN_IF_ERROR(CheckId("bos_id", spec.bos_id, count));
  RETURN_IF_ERROR(CheckId("eos_id", spec.eos_id, count));
  RETURN_IF_ERROR(CheckId("unk_id", spec.unk_id, count));
  RETURN_IF_ERROR(CheckId("pad_id", spec.pad_id, count));
  RETURN_IF_ERROR(CheckId("cls_id", spec.cls_id, count));
  RETURN_IF_ERROR(CheckId("sep_id", spec.sep_id, count));
  for (const int32_t id : spec.end_of_turn_ids) {
    RETURN_IF_ERROR(CheckId("an end-of-turn id", id, count));
  }
  return absl::OkStatus();
}

// The bytes every token decodes to.
std::vector<std::string> DecodedBytes(const TokenizerSpec& spec) {
  std::vector<std::string> bytes(spec.tokens.size());
  for (size_t id = 0; id < bytes.size(); ++id) {
    const std::string& text = spec.tokens[id];
    bytes[id] = text;
    if (spec.kind == TokenizerKind::kSentencePiece) {
      bytes[id] = SentencePiece::BytesOf(spec, id);
    }
    if (spec.types[id] != TokenType::kNormal) continue;
    if (spec.kind == TokenizerKind::kWordPiece) {
      bytes[id] = text.starts_with("##") ? text.substr(2) : " " + text;
    } else if (spec.kind == TokenizerKind::kByteLevelBpe) {
      if (auto raw = BytesOfPrintable(text)) bytes[id] = *std::move(raw);
    }
  }
  return bytes;
}

absl::StatusOr<std::unique_ptr<Tokenizer>> CreateBpe(
    const TokenizerSpec& spec) {
  const std::optional<SplitRule> rule = SplitRuleFromName(spec.pre);
  if (!rule) {
    return InvalidArgument(
        "split rule '{}' is not supported; gpt2, smollm, qwen2 and llama-bpe "
        "are",
        spec.pre);
  }
  // Only normal tokens may come out of merging: a merge that would build a
  // control token names an unknown one.
  std::vector<std::string> words(spec.tokens.size());
  for (size_t id = 0; id < words.size(); ++id) {
    if (spec.types[id] != TokenType::kNormal) continue;
    if (auto raw = BytesOfPrintable(spec.tokens[id])) words[id] = *raw;
  }
  ASSIGN_OR_RETURN(auto merger,
                   BytePairMerger::Create(std::move(words), spec.merges,
                                          *rule == SplitRule::kLlamaBpe));
  return std::make_unique<ByteLevelBpe>(*rule, std::move(merger));
}

absl::StatusOr<std::unique_ptr<Tokenizer>> CreateKind(
    const TokenizerSpec& spec) {
  switch (spec.kind) {
    case TokenizerKind::kByteLevelBpe:
      return CreateBpe(spec);
    case TokenizerKind::kWordPiece: {
      ASSIGN_OR_RETURN(auto tokenizer, WordPiece::Create(spec));
      return tokenizer;
    }
    case TokenizerKind::kSentencePiece: {
      ASSIGN_OR_RETURN(auto tokenizer, SentencePiece::Create(spec));
      return tokenizer;
    }
  }
  return InvalidArgument("tokenizer kind {} does not exist",
                         static_cast<int>(spec.kind));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> Tokenizer::Create(
    const TokenizerSpec& spec) {
  RETURN_IF_ERROR(CheckSpec(spec));
  ASSIGN_OR_RETURN(auto tokenizer, CreateKind(spec));
  RETURN_IF_ERROR(tokenizer->Init(spec, DecodedBytes(spec)));
  return tokenizer;
}

absl::Status Tokenizer::Init(const TokenizerSpec& spec,
                             std::vector<std::string> bytes) {
  bytes_ = std::move(bytes);
  control_.resize(bytes_.size());
  ids_.reserve(bytes_.size());
  for (size_t id = 0; id < bytes_.size(); ++id) {
    const TokenType type = spec.types[id];
    const bool control = type == TokenType::kControl;
    control_[id] =
        control || type == TokenType::kUnknown || type == TokenType::kUnused;
    const auto number = static_cast<int32_t>(id);
    // The sentencepiece library finds user-defined tokens itself.
    const bool added = control || (type == TokenType::kUserDefined &&
                                   spec.kind != TokenizerKind::kSentencePiece);
    // Added and normal tokens may spell alike ("Ġ" is not " "), so each kind
    // is checked among its own; the added one is found first.
    if (added) {
      const TokenTrie::Match known =
          added_.LongestAt(bytes_[id], 0, bytes_[id].size());
      if (known.id >= 0 && known.length == bytes_[id].size()) {
        return InvalidArgument("tokens {} and {} are alike", known.id, id);
      }
      added_.Add(bytes_[id], number, control);
      ids_[bytes_[id]] = number;
    } else {
      ids_.try_emplace(bytes_[id], number);
    }
  }
  for (const int32_t id : {spec.cls_id, spec.sep_id, spec.pad_id}) {
    if (id >= 0) control_[static_cast<size_t>(id)] = true;
  }
  bos_id_ = spec.bos_id;
  eos_id_ = spec.eos_id;
  cls_id_ = spec.cls_id;
  sep_id_ = spec.sep_id;
  add_bos_ = spec.add_bos && bos_id_ >= 0;
  if (eos_id_ >= 0) end_of_turn_ids_.push_back(eos_id_);
  for (const int32_t id : spec.end_of_turn_ids) {
    if (id >= 0 && !IsEndOfTurn(id)) end_of_turn_ids_.push_back(id);
  }
  return absl::OkStatus();
}

std::vector<int32_t> Tokenizer::EncodeStretches(
    std::string_view text, std::span<const Stretch> trusted) const {
  std::vector<int32_t> ids;
  ids.reserve(text.size() / 3 + 8);
  size_t start = 0;  // of the text not yet encoded
  size_t pos = 0;
  while ((pos = added_.NextCandidate(text, pos)) < text.size()) {
    while (!trusted.empty() && trusted.front().end <= pos) {
      trusted = trusted.subspan(1);
    }
    const bool vouched = !trusted.empty() && trusted.front().begin <= pos;
    const TokenTrie::Match match =
        added_.LongestAt(text, pos, vouched ? trusted.front().end : 0);
    if (match.id < 0) {
      ++pos;
      continue;
    }
    if (pos > start) EncodePlain(text.substr(start, pos - start), &ids);
    ids.push_back(match.id);
    pos += match.length;
    start = pos;
  }
  if (start < text.size()) EncodePlain(text.substr(start), &ids);
  return ids;
}

std::vector<int32_t> Tokenizer::Encode(std::string_view text,
                                       SpecialTokens mode) const {
  const Stretch all{0, text.size()};
  if (mode == SpecialTokens::kParse) return EncodeStretches(text, {&all, 1});
  return EncodeStretches(text, {});
}

std::vector<int32_t> Tokenizer::EncodePieces(
    std::span<const Piece> pieces) const {
  std::string text;
  std::vector<Stretch> trusted;
  for (const Piece& piece : pieces) {
    const size_t begin = text.size();
    text += piece.text;
    if (!piece.trusted || piece.text.empty()) continue;
    if (!trusted.empty() && trusted.back().end == begin) {
      trusted.back().end = text.size();
    } else {
      trusted.push_back({begin, text.size()});
    }
  }
  return EncodeStretches(text, trusted);
}

std::vector<int32_t> Tokenizer::EncodeFramed(std::string_view text,
                                             size_t max_tokens) const {
  std::vector<int32_t> ids = Encode(text, SpecialTokens::kAsText);
  std::vector<int32_t> framed;
  const bool bos = add_bos_ && cls_id_ < 0;
  const size_t frame =
      size_t{cls_id_ >= 0} + size_t{sep_id_ >= 0} + size_t{bos};
  if (max_tokens < frame) return framed;
  ids.resize(std::min(ids.size(), max_tokens - frame));
  framed.reserve(ids.size() + frame);
  if (cls_id_ >= 0) framed.push_back(cls_id_);
  if (bos) framed.push_back(bos_id_);
  framed.insert(framed.end(), ids.begin(), ids.end());
  if (sep_id_ >= 0) framed.push_back(sep_id_);
  return framed;
}

std::string Tokenizer::Decode(std::span<const int32_t> ids,
                              bool with_control) const {
  std::string bytes;
  for (const int32_t id : ids) {
    if (with_control || !IsControl(id)) bytes += TokenBytes(id);
  }
  return ToValidUtf8(bytes);
}

std::string_view Tokenizer::TokenBytes(int32_t id) const {
  if (id < 0 || id >= vocab_size()) return {};
  return bytes_[static_cast<size_t>(id)];
}

bool Tokenizer::IsControl(int32_t id) const {
  return id >= 0 && id < vocab_size() && control_[static_cast<size_t>(id)];
}

std::optional<int32_t> Tokenizer::FindToken(std::string_view bytes) const {
  const auto found = ids_.find(bytes);
  if (found == ids_.end()) return std::nullopt;
  return found->second;
}

bool Tokenizer::IsEndOfTurn(int32_t id) const {
  return std::find(end_of_turn_ids_.begin(), end_of_turn_ids_.end(), id) !=
         end_of_turn_ids_.end();
}

}  // namespace conclave::engine
