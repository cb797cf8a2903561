// Any bytes as a vocabulary and a text: creation refuses or works; encoding
// keeps ids in range, never makes control tokens of untrusted text, and
// streamed text equals text decoded at once.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/check.h"
#include "expert_workers/tokenizer/incremental_decoder.h"
#include "expert_workers/tokenizer/tokenizer.h"

namespace {

using conclave::engine::IncrementalDecoder;
using conclave::engine::SpecialTokens;
using conclave::engine::Tokenizer;
using conclave::weights::TokenizerKind;
using conclave::weights::TokenizerSpec;
using conclave::weights::TokenType;

std::string_view TakeLine(std::string_view* rest) {
  const size_t end = rest->find('\n');
  const std::string_view line = rest->substr(0, end);
  rest->remove_prefix(end == std::string_view::npos ? rest->size() : end + 1);
  return line;
}

// First line: kind and rule. Then "T<type digit>token" and "Mleft right"
// lines up to an empty line; the rest is the text.
TokenizerSpec ParseSpec(std::string_view* rest) {
  TokenizerSpec spec;
  const std::string_view head = TakeLine(rest);
  constexpr std::string_view kRules[] = {"gpt2", "smollm", "qwen2",
                                         "llama-bpe"};
  const uint8_t choice = head.empty() ? 0 : static_cast<uint8_t>(head[0]);
  spec.pre = kRules[choice % 4];
  spec.lowercase = (choice & 8) != 0;
  if (choice & 4) spec.kind = TokenizerKind::kWordPiece;
  spec.unk_id = head.size() > 1 ? head[1] - '0' : -1;
  spec.eos_id = head.size() > 2 ? head[2] - '0' : -1;
  if (head.size() > 3) {  // every byte a token
    for (int byte = 33; byte < 127; ++byte) {
      spec.tokens.emplace_back(1, static_cast<char>(byte));
      spec.types.push_back(TokenType::kNormal);
    }
  }
  while (!rest->empty()) {
    const std::string_view line = TakeLine(rest);
    if (line.empty()) break;
    if (line[0] == 'M') {
      spec.merges.emplace_back(line.substr(1));
    } else if (line.size() > 1) {
      spec.types.push_back(static_cast<TokenType>(line[1] - '0'));
      spec.tokens.emplace_back(line.substr(2));
    }
  }
  return spec;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view rest(reinterpret_cast<const char*>(data), size);
  const TokenizerSpec spec = ParseSpec(&rest);
  const auto created = Tokenizer::Create(spec);
  if (!created.ok()) return 0;
  const Tokenizer& tokenizer = **created;
  for (const SpecialTokens mode :
       {SpecialTokens::kAsText, SpecialTokens::kParse}) {
    const auto ids = tokenizer.Encode(rest, mode);
    IncrementalDecoder decoder(tokenizer);
    std::string streamed;
    for (const int32_t id : ids) {
      CHECK(id >= 0 && id < tokenizer.vocab_size(), "id {}", id);
      CHECK(mode == SpecialTokens::kParse ||
                spec.types[static_cast<size_t>(id)] != TokenType::kControl ||
                id == spec.unk_id,
            "control token {} from untrusted text", id);
      streamed += decoder.Push(id);
    }
    streamed += decoder.Finish();
    CHECK(streamed == tokenizer.Decode(ids));
  }
  return 0;
}
