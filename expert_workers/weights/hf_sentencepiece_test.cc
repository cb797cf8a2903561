// One vocabulary as its own file and as transformers converted it
// (tests/golden/tokenizer/sentencepiece_folder), and what is wrong with both.
#include "expert_workers/weights/hf_sentencepiece.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <sstream>

#include "expert_workers/weights/hf_tokenizer.h"
#include "expert_workers/weights/proto_reader.h"
#include "expert_workers/weights/sentencepiece_file.h"
#include "expert_workers/weights/tokenizer_facts.h"

namespace conclave::weights {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr int64_t kVocabSize = 700;

std::string ReadFile(const std::string& name) {
  std::ifstream in("tests/golden/tokenizer/sentencepiece_folder/" + name);
  EXPECT_TRUE(in.good()) << name;
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

Json ReadJsonFile(const std::string& name) {
  return Json::parse(ReadFile(name));
}

std::string MessageOf(const absl::Status& status) {
  return std::string(status.message());
}

// Tokens that merging makes, best first: the order is all that scores say.
std::vector<std::string> ByScore(const TokenizerSpec& spec) {
  std::vector<size_t> ids;
  for (size_t id = 0; id < spec.tokens.size(); ++id) {
    const std::string& text = spec.tokens[id];
    const auto characters = std::ranges::count_if(
        text, [](char c) { return (static_cast<uint8_t>(c) & 0xC0) != 0x80; });
    if (spec.types[id] == TokenType::kNormal && characters > 1) {
      ids.push_back(id);
    }
  }
  std::ranges::stable_sort(ids, std::ranges::greater(),
                           [&](size_t id) { return spec.scores[id]; });
  std::vector<std::string> texts;
  for (const size_t id : ids) texts.push_back(spec.tokens[id]);
  return texts;
}

TEST(HfSentencePiece, BothFilesAreOneVocabulary) {
  const Json json = ReadJsonFile("tokenizer.json");
  const Json settings = ReadJsonFile("tokenizer_config.json");
  ASSERT_TRUE(IsSentencePieceJson(json));
  const auto own = ReadHfSentencePiece(ReadFile("tokenizer.model"), json,
                                       settings, kVocabSize);
  const auto converted = ReadHfTokenizer(json, settings, kVocabSize);
  ASSERT_TRUE(own.ok()) << own.status();
  ASSERT_TRUE(converted.ok()) << converted.status();
  for (const TokenizerSpec* spec : {&*own, &*converted}) {
    EXPECT_EQ(spec->kind, TokenizerKind::kSentencePiece);
    EXPECT_EQ(spec->unk_id, 0);
    EXPECT_EQ(spec->bos_id, 1);
    EXPECT_EQ(spec->eos_id, 2);
    EXPECT_FALSE(spec->add_bos);  // as the folder's post-processor says
    EXPECT_TRUE(spec->add_space_prefix);
    EXPECT_FALSE(spec->remove_extra_spaces);
    EXPECT_EQ(spec->types[1], TokenType::kControl);
    EXPECT_EQ(spec->types[3], TokenType::kUserDefined);
    EXPECT_EQ(std::ranges::count(spec->types, TokenType::kByte), 256);
  }
  EXPECT_EQ(own->tokens, converted->tokens);
  EXPECT_EQ(own->types, converted->types);
  EXPECT_GT(ByScore(*own).size(), 200u);
  EXPECT_EQ(ByScore(*own), ByScore(*converted));

  Json with_bos = settings;
  with_bos["add_bos_token"] = true;
  const auto told = ReadHfTokenizer(json, with_bos, kVocabSize);
  ASSERT_TRUE(told.ok()) << told.status();
  EXPECT_TRUE(told->add_bos);
}

TEST(HfSentencePiece, TheFileAloneIsEnough) {
  const auto spec = ReadHfSentencePiece(ReadFile("tokenizer.model"),
                                        Json::object(), Json::object(), 704);
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_TRUE(spec->add_bos);
  EXPECT_EQ(spec->tokens[2], "</s>");
  EXPECT_THAT(spec->end_of_turn_ids, ElementsAre());
  EXPECT_EQ(spec->tokens[703], "[PAD703]");
  EXPECT_EQ(spec->types[703], TokenType::kUnused);
  EXPECT_EQ(spec->scores.size(), 704u);
}

TEST(HfSentencePiece, AddedTokensTakeRolesAndFreeIds) {
  const Json settings = Json::parse(
      R"({"eos_token": "<|im_end|>", "add_bos_token": false,
          "added_tokens_decoder": {
            "3": {"content": "<tool_call>", "special": true},
            "700": {"content": "<|im_end|>", "special": true},
            "701": {"content": "<think>", "special": false}}})");
  const std::string file = ReadFile("tokenizer.model");
  const auto spec = ReadHfSentencePiece(file, Json::object(), settings, 702);
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_EQ(spec->types[3], TokenType::kControl);
  EXPECT_EQ(spec->eos_id, 700);
  EXPECT_EQ(spec->types[701], TokenType::kUserDefined);
  EXPECT_FALSE(spec->add_bos);

  EXPECT_THAT(
      MessageOf(
          ReadHfSentencePiece(file, Json::object(), settings, 701).status()),
      HasSubstr("outside the vocabulary of 701"));
  const Json taken = Json::parse(
      R"({"added_tokens": [{"id": 600, "content": "x!", "special": true}]})");
  EXPECT_THAT(
      MessageOf(ReadHfSentencePiece(file, taken, Json::object(), 700).status()),
      HasSubstr("id 600 is both"));
}

TEST(HfSentencePiece, EveryTruncatedFileIsRefused) {
  const std::string file = ReadFile("tokenizer.model");
  ASSERT_GT(file.size(), 5000u);
  for (size_t size = 0; size < file.size(); ++size) {
    ASSERT_FALSE(ReadSentencePieceFile(std::string_view(file).substr(0, size),
                                       kVocabSize)
                     .ok())
        << size;
  }
  EXPECT_THAT(MessageOf(ReadSentencePieceFile(file, 699).status()),
              HasSubstr("700 tokens, but a vocabulary of 699"));
}

TEST(HfSentencePiece, OtherAlgorithmsAreRefused) {
  using namespace std::literals;
  const std::string piece = "\x0A\x03\x0A\x01"s + "a";
  const std::string bpe = "\x12\x02\x18\x02"s;
  const std::string plain = "\x1A\x02\x18\x00"s;
  ASSERT_TRUE(ReadSentencePieceFile(piece + bpe + plain, 1).ok());
  const std::pair<std::string, const char*> cases[] = {
      {piece + "\x12\x02\x18\x01"s + plain, "model type 1"},
      {piece + "\x12\x05\x18\x02\xC0\x01\x01"s + plain, "suffixes"},
      {piece + bpe + "\x1A\x03\x12\x01x"s, "normalisation"},
      {piece + bpe + "\x1A\x02\x28\x00"s, "not escaped"},
      {"\x0A\x05\x0A\x01"s + "a\x18\x07" + bpe + plain, "type 7"},
      {piece + bpe, "malformed"},
      {piece + bpe + plain + "\x0B", "malformed"},
  };
  for (const auto& [file, says] : cases) {
    const auto spec = ReadSentencePieceFile(file, 10);
    ASSERT_FALSE(spec.ok()) << says;
    EXPECT_THAT(MessageOf(spec.status()), HasSubstr(says));
  }
}

TEST(HfSentencePiece, JsonThatSentencePieceWouldReadOtherwise) {
  const Json good = ReadJsonFile("tokenizer.json");
  const Json settings = ReadJsonFile("tokenizer_config.json");
  Json json = good;
  json["model"]["merges"].erase(100);
  EXPECT_THAT(MessageOf(ReadHfTokenizer(json, settings, 700).status()),
              HasSubstr("put tokenizer.model beside it"));
  json = good;
  json["normalizer"] = {{"type", "NFKC"}};
  EXPECT_THAT(MessageOf(ReadHfTokenizer(json, settings, 700).status()),
              HasSubstr("normalises"));
  json = good;
  json["pre_tokenizer"] = {
      {"type", "Sequence"},
      {"pretokenizers", {good["pre_tokenizer"], {{"type", "Digits"}}}}};
  EXPECT_THAT(MessageOf(ReadHfTokenizer(json, settings, 700).status()),
              HasSubstr("splits text"));
  Json no_unknown = settings;
  no_unknown.erase("unk_token");
  EXPECT_THAT(MessageOf(ReadHfTokenizer(good, no_unknown, 700).status()),
              HasSubstr("unknown token"));
}

TEST(ProtoReader, MalformedFieldsEndIt) {
  using namespace std::literals;
  for (const std::string& bad :
       {"\x08"s, "\x0A\x05xx"s, "\x0D\x01\x02"s, "\x00\x00"s, "\x0B"s,
        "\x08\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF"s,
        "\x0A\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x7F"s, "\x09\x01"s}) {
    ProtoReader reader(bad);
    while (reader.Next()) {
    }
    EXPECT_FALSE(reader.ok());
  }
  const std::string message = "\x08\x96\x01\x12\x02hi\x1D\x00\x00\x80\x3F"s;
  ProtoReader good(message);
  ASSERT_TRUE(good.Next());
  EXPECT_EQ(good.varint(), 150u);
  ASSERT_TRUE(good.Next());
  EXPECT_EQ(good.bytes(), "hi");
  ASSERT_TRUE(good.Next());
  EXPECT_EQ(good.fixed32(), 1.0f);
  EXPECT_FALSE(good.Next());
  EXPECT_TRUE(good.ok());
}

}  // namespace
}  // namespace conclave::weights
