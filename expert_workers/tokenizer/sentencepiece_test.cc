#include "expert_workers/tokenizer/sentencepiece.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <thread>

#include "base/check.h"
#include "expert_workers/tokenizer/incremental_decoder.h"
#include "expert_workers/tokenizer/sentencepiece_proto.h"
#include "expert_workers/tokenizer/testing_specs.h"
#include "expert_workers/tokenizer/unicode.h"

namespace conclave::engine {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using weights::TokenizerKind;
using weights::TokenizerSpec;
using weights::TokenType;

// 0..3 special, 4..259 bytes, then pieces; the earlier the better.
TokenizerSpec SmallSpec() {
  TokenizerSpec spec;
  spec.kind = TokenizerKind::kSentencePiece;
  const auto add = [&spec](std::string text, TokenType type) {
    spec.tokens.push_back(std::move(text));
    spec.types.push_back(type);
    spec.scores.push_back(-static_cast<float>(spec.tokens.size()));
  };
  add("<unk>", TokenType::kUnknown);
  add("<s>", TokenType::kControl);
  add("<end>", TokenType::kControl);
  add("<tool>", TokenType::kUserDefined);
  for (int byte = 0; byte < 256; ++byte) {
    add(fmt::format("<0x{:02X}>", byte), TokenType::kByte);
  }
  for (const char* piece : {"ab", "abc", "\u2581a", "a", "b", "c", "\u2581"}) {
    add(piece, TokenType::kNormal);
  }
  add("  ", TokenType::kUserDefined);  // as GGUF writes it
  spec.unk_id = 0;
  spec.bos_id = 1;
  spec.eos_id = 2;
  spec.add_bos = true;
  return spec;
}
constexpr int32_t kAb = 260, kAbc = 261, kSpaceA = 262, kA = 263, kB = 264,
                  kSpace = 266, kTwoSpaces = 267;
int32_t ByteId(char c) { return 4 + static_cast<uint8_t>(c); }

std::unique_ptr<Tokenizer> Make(const TokenizerSpec& spec) {
  auto tokenizer = Tokenizer::Create(spec);
  CHECK(tokenizer.ok(), "{}", Message(tokenizer.status()));
  return *std::move(tokenizer);
}

std::vector<int32_t> AsText(const Tokenizer& tokenizer, std::string_view text) {
  return tokenizer.Encode(text, SpecialTokens::kAsText);
}

TEST(SentencePieceTest, MergesBestFirstAndFallsBackToBytes) {
  const auto tokenizer = Make(SmallSpec());
  EXPECT_THAT(AsText(*tokenizer, "abc"), ElementsAre(kAbc));
  EXPECT_THAT(AsText(*tokenizer, "b a"), ElementsAre(kB, kSpaceA));
  EXPECT_THAT(AsText(*tokenizer, " ab"), ElementsAre(kSpace, kAb));
  EXPECT_THAT(AsText(*tokenizer, "a  b"), ElementsAre(kA, kTwoSpaces, kB));
  EXPECT_THAT(AsText(*tokenizer, "a\xC3\xA9"),
              ElementsAre(kA, ByteId('\xC3'), ByteId('\xA9')));
  EXPECT_THAT(AsText(*tokenizer, ""), ElementsAre());
  EXPECT_THAT(tokenizer->EncodeFramed("ab"), ElementsAre(1, kAb));
}

TEST(SentencePieceTest, SpacesByTheModelsRules) {
  TokenizerSpec spec = SmallSpec();
  spec.add_space_prefix = true;
  EXPECT_THAT(AsText(*Make(spec), "a"), ElementsAre(kSpaceA));
  spec.add_space_prefix = false;
  spec.remove_extra_spaces = true;
  EXPECT_THAT(AsText(*Make(spec), " b   a "), ElementsAre(kB, kSpaceA));
}

TEST(SentencePieceTest, TextNeverBecomesAControlToken) {
  TokenizerSpec spec = SmallSpec();
  // Names that merging or single characters could make.
  spec.tokens[1] = "a";
  spec.tokens[2] = "<0x41>";
  const auto tokenizer = Make(spec);
  for (const char* text :
       {"a", "<0x41>", "<s>", "<end>", "<unk>", "<control 1>", "<control 0>"}) {
    for (const int32_t id : AsText(*tokenizer, text)) {
      EXPECT_FALSE(tokenizer->IsControl(id)) << text << " " << id;
    }
  }
  EXPECT_THAT(AsText(*tokenizer, "a"), ElementsAre(kA));
  EXPECT_THAT(AsText(*tokenizer, "<tool>"), ElementsAre(3));

  const auto plain = Make(SmallSpec());
  const std::vector<Piece> pieces = {
      {"<s>a<e", true}, {"nd>", true}, {"<end>", false}};
  EXPECT_THAT(plain->EncodePieces(pieces),
              ElementsAre(1, kA, 2, ByteId('<'), ByteId('e'), ByteId('n'),
                          ByteId('d'), ByteId('>')));
}

TEST(SentencePieceTest, DecodesBytesAndSpaces) {
  const auto tokenizer = Make(SmallSpec());
  for (const std::string text :
       {"ab  c", " \xE2\x82\xAC<tool>\xF0\x9F\x98\x80 ", "  a\n"}) {
    const auto ids = AsText(*tokenizer, text);
    EXPECT_EQ(tokenizer->Decode(ids), text);
    IncrementalDecoder decoder(*tokenizer);
    std::string streamed;
    for (const int32_t id : ids) {
      const std::string part = decoder.Push(id);
      EXPECT_EQ(part, ToValidUtf8(part));
      streamed += part;
    }
    EXPECT_EQ(streamed + decoder.Finish(), text);
  }
}

TEST(SentencePieceTest, WithoutByteFallbackTextIsUnknown) {
  TokenizerSpec spec = SmallSpec();
  for (TokenType& type : spec.types) {
    if (type == TokenType::kByte) type = TokenType::kNormal;
  }
  EXPECT_THAT(AsText(*Make(spec), "zz\xC3\xA9"), ElementsAre(0));
}

// What the library would not survive, or would refuse without saying which
// token.
TEST(SentencePieceTest, RefusesHostileSpecs) {
  struct Case {
    const char* says;
    void (*change)(TokenizerSpec&);
  };
  const Case cases[] = {
      {"267 scores for 268 tokens",
       [](TokenizerSpec& s) { s.scores.pop_back(); }},
      {"0 scores", [](TokenizerSpec& s) { s.scores.clear(); }},
      {"score nan", [](TokenizerSpec& s) { s.scores[7] = std::nanf(""); }},
      {"score inf", [](TokenizerSpec& s) { s.scores[7] = INFINITY; }},
      {"unk_id", [](TokenizerSpec& s) { s.unk_id = -1; }},
      {"token 263 has 0 bytes", [](TokenizerSpec& s) { s.tokens[263] = ""; }},
      {"token 263 has 5000 bytes",
       [](TokenizerSpec& s) { s.tokens[263] = std::string(5000, 'a'); }},
      {"token 267 is not text",
       [](TokenizerSpec& s) { s.tokens[267] = std::string("a\0b", 3); }},
      {"token 267 is not text",
       [](TokenizerSpec& s) { s.tokens[267] = "\xC0\x80"; }},
      {"already defined", [](TokenizerSpec& s) { s.tokens[263] = "b"; }},
      {"256 byte pieces",
       [](TokenizerSpec& s) { s.types[9] = TokenType::kNormal; }},
      {"is invalid", [](TokenizerSpec& s) { s.tokens[9] = "<0xGG>"; }},
      {"begin with one another",
       [](TokenizerSpec& s) {
         for (size_t i = 1; i <= 65; ++i) {
           s.tokens.push_back(std::string(i, 'x'));
           s.types.push_back(TokenType::kUserDefined);
           s.scores.push_back(0);
         }
       }},
  };
  for (const auto& [says, change] : cases) {
    TokenizerSpec spec = SmallSpec();
    change(spec);
    const auto tokenizer = Tokenizer::Create(spec);
    EXPECT_EQ(tokenizer.status().code(), absl::StatusCode::kInvalidArgument)
        << says;
    EXPECT_THAT(std::string(Message(tokenizer.status())), HasSubstr(says));
  }
}

// As deep as the library can be let go: nested user-defined tokens, and unused
// ones that come apart again by recursion.
TEST(SentencePieceTest, TheDeepestVocabulariesWork) {
  TokenizerSpec spec = SmallSpec();
  for (size_t i = 1; i <= 64; ++i) {
    spec.tokens.push_back(std::string(i, 'x'));
    spec.types.push_back(TokenType::kUserDefined);
    spec.scores.push_back(0);
  }
  for (size_t i = 2; i <= 1024; ++i) {
    spec.tokens.push_back(std::string(i, 'a'));
    spec.types.push_back(TokenType::kUnused);
    spec.scores.push_back(static_cast<float>(i));
  }
  const auto tokenizer = Make(spec);
  EXPECT_THAT(AsText(*tokenizer, std::string(65, 'x')),
              ElementsAre(268 + 63, 268));
  EXPECT_THAT(AsText(*tokenizer, std::string(3000, 'a')), Each(kA));
}

TEST(SentencePieceTest, AnyBytesFromManyThreads) {
  const auto tokenizer = Make(SmallSpec());
  std::string bytes;
  for (int i = 0; i < 256; ++i) bytes += static_cast<char>(i);
  const auto expected = AsText(*tokenizer, bytes);
  EXPECT_FALSE(expected.empty());
  std::vector<std::thread> threads;
  std::vector<int> wrong(4);
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 200; ++i) {
        if (AsText(*tokenizer, bytes) != expected) ++wrong[t];
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_THAT(wrong, Each(0));
}

// Texts built to make a tokenizer quadratic; see tokenizer_test.cc.
TEST(SentencePieceTest, HostileTextsEndSoon) {
  const auto spec = testing::ReadGgufSpec(testing::kGemma3);
  if (!spec) GTEST_SKIP() << testing::kGemma3 << " is not there";
  const auto tokenizer = Make(spec->tokenizer);
  for (const std::string_view unit :
       {"a", " ", "\n", "<", "<start_of_turn", "0", "ab", "\xCC\x81", "\xFF",
        "\xE2\x96\x81"}) {
    std::string text;
    while (text.size() < (1u << 18)) text += unit;
    const auto start = std::chrono::steady_clock::now();
    EXPECT_FALSE(tokenizer->Encode(text, SpecialTokens::kParse).empty());
    const std::chrono::duration<double> seconds =
        std::chrono::steady_clock::now() - start;
    EXPECT_LT(seconds.count(), 10.0) << unit;
  }
}

}  // namespace
}  // namespace conclave::engine
