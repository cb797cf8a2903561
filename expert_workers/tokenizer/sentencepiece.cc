#include "expert_workers/tokenizer/sentencepiece.h"

#include <charconv>
#include <optional>

#include "expert_workers/tokenizer/sentencepiece_proto.h"

namespace conclave::engine {
namespace {

using weights::TokenizerSpec;
using weights::TokenType;

// "<0x41>" -> 'A'.
std::optional<char> ByteOf(std::string_view text) {
  if (text.size() != 6 || !text.starts_with("<0x") || text[5] != '>') {
    return std::nullopt;
  }
  unsigned value = 0;
  const auto [end, error] =
      std::from_chars(text.data() + 3, text.data() + 5, value, 16);
  if (error != std::errc() || end != text.data() + 5) return std::nullopt;
  return static_cast<char>(value);
}

std::string WithSpaces(std::string_view text) {
  std::string spaced;
  while (!text.empty()) {
    const size_t mark = text.find(kSpaceMark);
    spaced += text.substr(0, mark);
    if (mark == std::string_view::npos) break;
    spaced += ' ';
    text.remove_prefix(mark + kSpaceMark.size());
  }
  return spaced;
}

}  // namespace

absl::StatusOr<std::unique_ptr<SentencePiece>> SentencePiece::Create(
    const TokenizerSpec& spec) {
  RETURN_IF_ERROR(CheckForSentencePiece(spec));
  ASSIGN_OR_RETURN(auto processor,
                   SentencePieceProcessor::Create(SentencePieceProto(spec)));
  return std::unique_ptr<SentencePiece>(
      new SentencePiece(std::move(processor), spec.unk_id));
}

std::string SentencePiece::BytesOf(const TokenizerSpec& spec, size_t id) {
  const std::string& text = spec.tokens[id];
  switch (spec.types[id]) {
    case TokenType::kNormal:
    case TokenType::kUserDefined:
    case TokenType::kUnused:
      return WithSpaces(text);
    case TokenType::kByte:
      if (const auto byte = ByteOf(text)) return std::string(1, *byte);
      return text;
    case TokenType::kControl:
    case TokenType::kUnknown:
      return text;
  }
  return text;
}

void SentencePiece::EncodePlain(std::string_view text,
                                std::vector<int32_t>* ids) const {
  // A failure is the library's and no text is known to cause one; a prompt
  // with a gap that shows is better than no service.
  if (!processor_->Encode(text, ids).ok()) ids->push_back(unk_id_);
}

}  // namespace conclave::engine
