#include "expert_workers/tokenizer/sentencepiece_proto.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <vector>

#include "expert_workers/tokenizer/unicode.h"

namespace conclave::engine {
namespace {

using weights::TokenizerSpec;
using weights::TokenType;

// Unused tokens are taken apart again by recursion, a level a byte at worst.
constexpr size_t kMaxPieceBytes = 1024;
// User-defined tokens that begin with one another: the library keeps this many
// matches on its stack and does not count.
constexpr size_t kMaxNested = 64;

// Field numbers of sentencepiece_model.proto.
enum ModelField : uint32_t { kPieces = 1, kTrainer = 2, kNormalizer = 3 };
enum PieceField : uint32_t { kPiece = 1, kScore = 2, kType = 3 };
enum TrainerField : uint32_t { kModelType = 3, kByteFallback = 35 };
enum NormalizerField : uint32_t {
  kAddDummyPrefix = 3,
  kRemoveExtraWhitespaces = 4,
  kEscapeWhitespaces = 5,
};
constexpr uint64_t kModelTypeBpe = 2;

class ProtoWriter {
 public:
  void Varint(uint32_t field, uint64_t value) {
    Raw(uint64_t{field} << 3);
    Raw(value);
  }
  void Float(uint32_t field, float value) {
    Raw(uint64_t{field} << 3 | 5);
    const auto bits = std::bit_cast<uint32_t>(value);
    for (int i = 0; i < 4; ++i) {
      bytes_ += static_cast<char>(bits >> (8 * i) & 0xFF);
    }
  }
  void Bytes(uint32_t field, std::string_view value) {
    Raw(uint64_t{field} << 3 | 2);
    Raw(value.size());
    bytes_ += value;
  }
  std::string Take() { return std::move(bytes_); }

 private:
  void Raw(uint64_t value) {
    for (; value >= 0x80; value >>= 7) {
      bytes_ += static_cast<char>(value | 0x80);
    }
    bytes_ += static_cast<char>(value);
  }
  std::string bytes_;
};

// Spaces as the library writes them: GGUF's user-defined tokens have bare
// ones.
std::string WithSpaceMarks(std::string_view text) {
  std::string marked;
  for (const char c : text) {
    if (c == ' ') {
      marked += kSpaceMark;
    } else {
      marked += c;
    }
  }
  return marked;
}

std::string PieceText(const TokenizerSpec& spec, size_t id) {
  switch (spec.types[id]) {
    case TokenType::kNormal:
    case TokenType::kUnused:
    case TokenType::kByte:
      if (static_cast<int32_t>(id) == spec.unk_id) break;
      return spec.tokens[id];
    case TokenType::kUserDefined:
      return WithSpaceMarks(spec.tokens[id]);
    case TokenType::kControl:
    case TokenType::kUnknown:
      break;
  }
  // Two characters at least, and merging never makes them: a name of the
  // library's reserved table, which text does not reach.
  return fmt::format("<control {}>", id);
}

// Of consecutive sorted texts, those that the last begins with.
absl::Status CheckNesting(std::vector<std::string> texts) {
  std::ranges::sort(texts);
  std::vector<std::string_view> open;
  for (const std::string& text : texts) {
    while (!open.empty() && !text.starts_with(open.back())) open.pop_back();
    open.push_back(text);
    if (open.size() > kMaxNested) {
      return InvalidArgument(
          "more than {} user-defined tokens begin with one another, as \"{}\"",
          kMaxNested, text.substr(0, 32));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckForSentencePiece(const TokenizerSpec& spec) {
  const size_t count = spec.tokens.size();
  if (spec.scores.size() != count) {
    return InvalidArgument("{} scores for {} tokens", spec.scores.size(),
                           count);
  }
  if (spec.unk_id < 0) {
    return InvalidArgument("a SentencePiece vocabulary needs an unk_id");
  }
  std::vector<std::string> user_defined;
  for (size_t id = 0; id < count; ++id) {
    const std::string& text = spec.tokens[id];
    if (!std::isfinite(spec.scores[id])) {
      return InvalidArgument("token {} has the score {}", id, spec.scores[id]);
    }
    if (text.empty() || text.size() > kMaxPieceBytes) {
      return InvalidArgument("token {} has {} bytes; 1..{} are possible", id,
                             text.size(), kMaxPieceBytes);
    }
    if (text.find('\0') != std::string::npos || ToValidUtf8(text) != text) {
      return InvalidArgument("token {} is not text", id);
    }
    if (spec.types[id] == TokenType::kUserDefined) {
      user_defined.push_back(PieceText(spec, id));
    }
  }
  return CheckNesting(std::move(user_defined));
}

std::string SentencePieceProto(const TokenizerSpec& spec) {
  ProtoWriter model;
  bool byte_fallback = false;
  for (size_t id = 0; id < spec.tokens.size(); ++id) {
    const bool unknown = static_cast<int32_t>(id) == spec.unk_id;
    // The library wants one unknown token, and knows it by its type alone.
    TokenType type = spec.types[id];
    if (type == TokenType::kUnknown) type = TokenType::kControl;
    if (unknown) type = TokenType::kUnknown;
    byte_fallback |= type == TokenType::kByte;
    ProtoWriter piece;
    piece.Bytes(kPiece, PieceText(spec, id));
    piece.Float(kScore, spec.scores[id]);
    piece.Varint(kType, static_cast<uint64_t>(type));
    model.Bytes(kPieces, piece.Take());
  }
  ProtoWriter trainer;
  trainer.Varint(kModelType, kModelTypeBpe);
  trainer.Varint(kByteFallback, byte_fallback ? 1 : 0);
  model.Bytes(kTrainer, trainer.Take());
  ProtoWriter normalizer;
  normalizer.Varint(kAddDummyPrefix, spec.add_space_prefix ? 1 : 0);
  normalizer.Varint(kRemoveExtraWhitespaces, spec.remove_extra_spaces ? 1 : 0);
  normalizer.Varint(kEscapeWhitespaces, 1);
  model.Bytes(kNormalizer, normalizer.Take());
  return model.Take();
}

}  // namespace conclave::engine
