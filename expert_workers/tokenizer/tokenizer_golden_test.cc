// Token ids against Hugging Face `tokenizers` and the Python package
// `sentencepiece`, on 12,000 generated strings of hard Unicode for each of
// eight vocabularies: see tests/golden/tokenizer/.
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "expert_workers/tokenizer/testing_specs.h"
#include "expert_workers/tokenizer/tokenizer.h"
#include "expert_workers/tokenizer/unicode.h"

namespace conclave::engine {
namespace {

constexpr size_t kNumStrings = 12000;
constexpr size_t kBlock = 100;
constexpr uint64_t kHashStart = 0xCBF29CE484222325;

nlohmann::json ReadGolden(const std::string& name) {
  std::ifstream in("tests/golden/tokenizer/" + name + ".json");
  return nlohmann::json::parse(in);
}

// The generator of make_golden.py.
std::vector<std::string> MakeStrings() {
  const nlohmann::json table = ReadGolden("fragments");
  const auto fragments = table["fragments"].get<std::vector<std::string>>();
  const auto ranges =
      table["ranges"].get<std::vector<std::pair<uint32_t, uint32_t>>>();
  std::vector<std::string> strings;
  for (uint64_t i = 0; i < kNumStrings; ++i) {
    uint64_t state = (i + 1) * 0x9E3779B97F4A7C15;
    const auto draw = [&](uint64_t n) {
      state ^= state << 13;
      state ^= state >> 7;
      state ^= state << 17;
      return state % n;
    };
    std::string text;
    for (uint64_t left = 1 + draw(16); left > 0; --left) {
      if (draw(8) < 6) {
        text += fragments[draw(fragments.size())];
      } else {
        const auto [low, high] = ranges[draw(ranges.size())];
        AppendUtf8(low + static_cast<char32_t>(draw(high - low + 1)), &text);
      }
    }
    strings.push_back(std::move(text));
  }
  return strings;
}

const std::vector<std::string>& Strings() {
  static const auto* const strings =
      new std::vector<std::string>(MakeStrings());
  return *strings;
}

uint64_t Fold(const std::vector<int32_t>& ids, uint64_t hash) {
  constexpr uint64_t kPrime = 0x100000001B3;
  hash = (hash ^ ids.size()) * kPrime;
  for (const int32_t id : ids)
    hash = (hash ^ static_cast<uint32_t>(id)) * kPrime;
  return hash;
}

void ExpectGolden(const Tokenizer& tokenizer, const nlohmann::json& golden,
                  SpecialTokens mode) {
  const auto full = golden["full"].get<std::vector<std::vector<int32_t>>>();
  const auto blocks = golden["blocks"].get<std::vector<std::string>>();
  ASSERT_EQ(blocks.size(), kNumStrings / kBlock);
  size_t wrong_blocks = 0;
  uint64_t hash = kHashStart;
  for (size_t i = 0; i < kNumStrings; ++i) {
    const auto ids = tokenizer.Encode(Strings()[i], mode);
    if (i < full.size()) {
      ASSERT_EQ(ids, full[i]) << "string " << i << ": " << Strings()[i];
    }
    hash = Fold(ids, hash);
    if ((i + 1) % kBlock != 0) continue;
    if (fmt::format("{:016x}", hash) != blocks[i / kBlock]) {
      ADD_FAILURE() << "strings " << i + 1 - kBlock << ".." << i;
      ++wrong_blocks;
    }
    hash = kHashStart;
  }
  EXPECT_EQ(wrong_blocks, 0u) << "of " << blocks.size();
}

void ExpectBothGolden(const weights::TokenizerSpec& spec,
                      const nlohmann::json& golden) {
  const auto tokenizer = Tokenizer::Create(spec);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  ExpectGolden(**tokenizer, golden["text"], SpecialTokens::kAsText);
  ExpectGolden(**tokenizer, golden["parse"], SpecialTokens::kParse);
}

TEST(TokenizerGoldenTest, SmolLm2) {
  const auto spec = testing::ReadGgufSpec(testing::kSmolLm2);
  if (!spec) GTEST_SKIP() << testing::kSmolLm2 << " is not there";
  ExpectBothGolden(spec->tokenizer, ReadGolden("smollm2"));
}

TEST(TokenizerGoldenTest, Qwen2Coder) {
  const auto spec = testing::ReadGgufSpec(testing::kQwen2Coder);
  if (!spec) GTEST_SKIP() << testing::kQwen2Coder << " is not there";
  ExpectBothGolden(spec->tokenizer, ReadGolden("qwen2_coder"));
}

TEST(TokenizerGoldenTest, MiniLm) {
  const auto spec = testing::ReadMiniLmSpec();
  if (!spec) GTEST_SKIP() << "all-MiniLM-L6-v2/vocab.txt is not there";
  ExpectBothGolden(*spec, ReadGolden("minilm"));
}

TEST(TokenizerGoldenTest, Gemma3) {
  const auto spec = testing::ReadGgufSpec(testing::kGemma3);
  if (!spec) GTEST_SKIP() << testing::kGemma3 << " is not there";
  ExpectBothGolden(spec->tokenizer, ReadGolden("gemma3"));
}

weights::TokenizerSpec SpecOf(const nlohmann::json& json) {
  weights::TokenizerSpec spec;
  spec.tokens = json["tokens"].get<std::vector<std::string>>();
  if (json.contains("scores")) {
    spec.kind = weights::TokenizerKind::kSentencePiece;
    spec.scores = json["scores"].get<std::vector<float>>();
    spec.unk_id = json["unk_id"];
    spec.add_space_prefix = json["add_space_prefix"];
    spec.remove_extra_spaces = json["remove_extra_spaces"];
  } else {
    spec.pre = json["pre"];
    spec.merges = json["merges"].get<std::vector<std::string>>();
  }
  for (const int type : json["types"]) {
    spec.types.push_back(static_cast<weights::TokenType>(type));
  }
  return spec;
}

TEST(TokenizerGoldenTest, TrainedGpt2) {
  const auto golden = ReadGolden("trained_gpt2");
  ExpectBothGolden(SpecOf(golden["spec"]), golden);
}

TEST(TokenizerGoldenTest, TrainedLlamaBpe) {
  const auto golden = ReadGolden("trained_llama_bpe");
  ExpectBothGolden(SpecOf(golden["spec"]), golden);
}

TEST(TokenizerGoldenTest, TrainedSentencePiece) {
  for (const char* name :
       {"trained_sentencepiece_llama", "trained_sentencepiece_plain"}) {
    const auto golden = ReadGolden(name);
    ExpectBothGolden(SpecOf(golden["spec"]), golden);
  }
}

}  // namespace
}  // namespace conclave::engine
