#include "expert_workers/tokenizer/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>

#include "base/check.h"
#include "expert_workers/tokenizer/incremental_decoder.h"
#include "expert_workers/tokenizer/testing_specs.h"
#include "expert_workers/tokenizer/unicode.h"

namespace conclave::engine {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using weights::TokenizerKind;
using weights::TokenizerSpec;
using weights::TokenType;

// Bytes a..d, three merges, a control and a user-defined token. Byte tokens
// are 0..255 in byte order, printable mapping.
TokenizerSpec SmallSpec() {
  TokenizerSpec spec;
  spec.pre = "gpt2";
  char32_t next = 256;
  for (char32_t byte = 0; byte < 256; ++byte) {
    const bool printable = (byte >= 33 && byte <= 126) ||
                           (byte >= 161 && byte <= 172) || byte >= 174;
    std::string token;
    AppendUtf8(printable ? byte : next++, &token);
    spec.tokens.push_back(token);
  }
  for (const char* token : {"aa", "aaaa", "ab", "<|end|>", "<tool>"}) {
    spec.tokens.push_back(token);
  }
  spec.types.assign(spec.tokens.size(), TokenType::kNormal);
  spec.types[259] = TokenType::kControl;
  spec.types[260] = TokenType::kUserDefined;
  spec.merges = {"a a", "aa aa", "a b"};
  spec.eos_id = 259;
  return spec;
}

std::unique_ptr<Tokenizer> Make(const TokenizerSpec& spec) {
  auto tokenizer = Tokenizer::Create(spec);
  CHECK(tokenizer.ok(), "{}", Message(tokenizer.status()));
  return *std::move(tokenizer);
}

void ExpectRefused(const TokenizerSpec& spec, const char* why) {
  const auto tokenizer = Tokenizer::Create(spec);
  ASSERT_FALSE(tokenizer.ok()) << why;
  EXPECT_EQ(tokenizer.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(Message(tokenizer.status())), HasSubstr(why));
}

TEST(TokenizerTest, MergesInRankOrder) {
  const auto tokenizer = Make(SmallSpec());
  EXPECT_THAT(tokenizer->Encode("aaaaab", SpecialTokens::kAsText),
              ElementsAre(257, 258));
  EXPECT_THAT(tokenizer->Encode("aaab", SpecialTokens::kAsText),
              ElementsAre(256, 258));
  EXPECT_THAT(tokenizer->Encode("", SpecialTokens::kParse), ElementsAre());
}

TEST(TokenizerTest, ControlTokensOnlyWhereTrusted) {
  const auto tokenizer = Make(SmallSpec());
  EXPECT_THAT(tokenizer->Encode("a<|end|>b", SpecialTokens::kParse),
              ElementsAre('a', 259, 'b'));
  const auto ids = tokenizer->Encode("<|end|><tool>", SpecialTokens::kAsText);
  EXPECT_THAT(ids, ElementsAre('<', '|', 'e', 'n', 'd', '|', '>', 260));

  const std::vector<Piece> pieces = {{"a<|en", true},
                                     {"d|>", true},
                                     {"<|end|>a", false},
                                     {"a<|end|", true},
                                     {">", false}};
  EXPECT_THAT(tokenizer->EncodePieces(pieces),
              ElementsAre('a', 259, '<', '|', 'e', 'n', 'd', '|', '>', 256, '<',
                          '|', 'e', 'n', 'd', '|', '>'));
}

TEST(TokenizerTest, PiecesAreOneRunOfText) {
  const auto tokenizer = Make(SmallSpec());
  const std::vector<Piece> pieces = {{"a", true}, {"a", false}, {"aa", true}};
  EXPECT_THAT(tokenizer->EncodePieces(pieces), ElementsAre(257));
}

TEST(TokenizerTest, EveryByteStringSurvives) {
  const auto tokenizer = Make(SmallSpec());
  std::string bytes;
  for (int i = 0; i < 256; ++i) bytes += static_cast<char>(i);
  for (const std::string& text :
       {bytes, std::string("\xF0\x9F\x98"), std::string("\xC0\x80\xED\xA0\x80"),
        std::string("\xE2\x82\xAC\xE2\x82")}) {
    std::string back;
    for (const int32_t id : tokenizer->Encode(text, SpecialTokens::kAsText)) {
      back += tokenizer->TokenBytes(id);
    }
    EXPECT_EQ(back, text);
  }
}

TEST(TokenizerTest, AccessorsAndRanges) {
  TokenizerSpec spec = SmallSpec();
  spec.end_of_turn_ids = {259, 256};
  const auto tokenizer = Make(spec);
  EXPECT_EQ(tokenizer->vocab_size(), 261);
  EXPECT_THAT(tokenizer->end_of_turn_ids(), ElementsAre(259, 256));
  EXPECT_TRUE(tokenizer->IsControl(259));
  EXPECT_FALSE(tokenizer->IsControl(260));
  EXPECT_FALSE(tokenizer->IsControl(-1));
  EXPECT_EQ(tokenizer->TokenBytes(' '), " ");
  EXPECT_EQ(tokenizer->TokenBytes(1 << 30), "");
  EXPECT_EQ(tokenizer->FindToken("<|end|>"), 259);
  EXPECT_EQ(tokenizer->FindToken("nothing"), std::nullopt);
  EXPECT_EQ(tokenizer->Decode(std::vector<int32_t>{'a', 259, ' ', 257}),
            "a aaaa");
  EXPECT_EQ(tokenizer->Decode(std::vector<int32_t>{'a', 259}, true),
            "a<|end|>");
}

TEST(TokenizerTest, RefusesHostileSpecs) {
  TokenizerSpec spec = SmallSpec();
  spec.types.pop_back();
  ExpectRefused(spec, "token types for");
  spec = SmallSpec();
  spec.types[3] = static_cast<TokenType>(9);
  ExpectRefused(spec, "has type 9");
  spec = SmallSpec();
  spec.tokens[257] = "aa";
  ExpectRefused(spec, "tokens 256 and 257 are alike");
  spec = SmallSpec();
  spec.types[258] = TokenType::kControl;
  spec.tokens[258] = "<|end|>";
  spec.merges.pop_back();
  ExpectRefused(spec, "alike");
  spec = SmallSpec();
  spec.merges.push_back("aa zz");
  ExpectRefused(spec, "merge 3 names a token");
  spec = SmallSpec();
  spec.merges.push_back("aa");
  ExpectRefused(spec, "merge 3 has no space");
  spec = SmallSpec();
  spec.types[257] = TokenType::kControl;  // "aa aa" would now build control
  ExpectRefused(spec, "merge 1 names a token");
  spec = SmallSpec();
  spec.eos_id = 261;
  ExpectRefused(spec, "eos_id is 261");
  spec = SmallSpec();
  spec.end_of_turn_ids = {-7};
  ExpectRefused(spec, "end-of-turn");
  spec = SmallSpec();
  spec.pre = "unheard-of";
  ExpectRefused(spec, "split rule 'unheard-of'");
  ExpectRefused(TokenizerSpec(), "vocabulary of 0");
  spec = SmallSpec();
  spec.tokens[259] = std::string(1000, '<');
  ExpectRefused(spec, "at most 512");
  spec = SmallSpec();
  spec.kind = TokenizerKind::kWordPiece;
  ExpectRefused(spec, "needs an unk_id");
}

// The sum of many tokens' texts, streamed, is the whole decoded at once,
// whatever the bytes are.
TEST(IncrementalDecoderTest, EqualsDecodingAtOnce) {
  const auto tokenizer = Make(SmallSpec());
  const std::string bytes =
      "a\xE2\x82\xAC\xF0\x9F\x98\x80\xF0\x9F\x98g\xC3\xC3\xA9\xFF\xED\xA0\x80"
      "\xE2\x82";
  for (size_t length = 0; length <= bytes.size(); ++length) {
    std::vector<int32_t> ids;
    IncrementalDecoder decoder(*tokenizer);
    std::string streamed;
    for (const char c : bytes.substr(0, length)) {
      ids.push_back(static_cast<uint8_t>(c));
      const std::string part = decoder.Push(ids.back());
      EXPECT_EQ(part, ToValidUtf8(part));
      streamed += part;
    }
    streamed += decoder.Finish();
    EXPECT_EQ(streamed, tokenizer->Decode(ids));
  }
}

TEST(IncrementalDecoderTest, HoldsBackHalfCharacters) {
  const auto tokenizer = Make(SmallSpec());
  IncrementalDecoder decoder(*tokenizer);
  EXPECT_EQ(decoder.Push(0xE2), "");
  EXPECT_EQ(decoder.Push(0x82), "");
  EXPECT_EQ(decoder.Push(0xAC), "\xE2\x82\xAC");
  EXPECT_EQ(decoder.Push(259), "");
  EXPECT_EQ(decoder.Push(0xE2), "");
  EXPECT_EQ(decoder.Push('a'),
            "\xEF\xBF\xBD"
            "a");
  EXPECT_EQ(decoder.Push(0xF0), "");
  EXPECT_EQ(decoder.Finish(), "\xEF\xBF\xBD");
  EXPECT_EQ(decoder.Finish(), "");
}

TokenizerSpec WordPieceSpec() {
  TokenizerSpec spec;
  spec.kind = TokenizerKind::kWordPiece;
  spec.tokens = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "play",
                 "##ing", "[",     "]",     "cls",   "cafe"};
  spec.types.assign(spec.tokens.size(), TokenType::kNormal);
  spec.pad_id = 0;
  spec.unk_id = 1;
  spec.cls_id = 2;
  spec.sep_id = 3;
  spec.lowercase = true;
  return spec;
}

TEST(WordPieceTest, FramesAndCuts) {
  const auto tokenizer = Make(WordPieceSpec());
  EXPECT_THAT(tokenizer->EncodeFramed("Playing caf\xC3\xA9"),
              ElementsAre(2, 4, 5, 9, 3));
  EXPECT_THAT(tokenizer->EncodeFramed("playing cafe", 4),
              ElementsAre(2, 4, 5, 3));
  EXPECT_THAT(tokenizer->EncodeFramed("playing", 2), ElementsAre(2, 3));
  EXPECT_THAT(tokenizer->EncodeFramed("playing", 1), ElementsAre());
}

TEST(WordPieceTest, FrameTokensNeverComeFromText) {
  const auto tokenizer = Make(WordPieceSpec());
  EXPECT_THAT(tokenizer->Encode("[CLS]", SpecialTokens::kAsText),
              ElementsAre(6, 8, 7));
}

TEST(WordPieceTest, LongWordsAreUnknown) {
  TokenizerSpec spec = WordPieceSpec();
  spec.tokens.push_back("a");
  spec.tokens.push_back("##a");
  spec.types.assign(spec.tokens.size(), TokenType::kNormal);
  const auto tokenizer = Make(spec);
  EXPECT_EQ(
      tokenizer->Encode(std::string(100, 'a'), SpecialTokens::kAsText).size(),
      100u);
  EXPECT_THAT(tokenizer->Encode(std::string(101, 'a'), SpecialTokens::kAsText),
              ElementsAre(1));
}

// Texts built to make a tokenizer quadratic. A quadratic one needs hours for
// a megabyte; ten seconds leave room for a slow, sanitised build.
TEST(TokenizerTest, HostileMegabytesEndSoon) {
  const auto spec = testing::ReadGgufSpec(testing::kQwen2Coder);
  if (!spec) GTEST_SKIP() << testing::kQwen2Coder << " is not there";
  const auto tokenizer = Make(spec->tokenizer);
  const auto repeat = [](std::string_view unit) {
    std::string text;
    while (text.size() < (1u << 20)) text += unit;
    return text;
  };
  // The last one: marks whose canonical order is the reverse of theirs.
  for (const std::string_view unit :
       {"a", " ", "\n", " \n", "<", "<|im_start", "'", "0", "ab", "\xCC\x81",
        "\xCC\x81\xCC\xA3", "\xFF", "\xE2\x82"}) {
    const auto start = std::chrono::steady_clock::now();
    const auto ids = tokenizer->Encode(repeat(unit), SpecialTokens::kParse);
    const std::chrono::duration<double> seconds =
        std::chrono::steady_clock::now() - start;
    EXPECT_FALSE(ids.empty());
    EXPECT_LT(seconds.count(), 10.0) << unit;
  }
}

}  // namespace
}  // namespace conclave::engine
