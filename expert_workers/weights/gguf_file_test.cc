#include "expert_workers/weights/gguf_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "expert_workers/weights/import_gguf.h"
#include "expert_workers/weights/test_files.h"

namespace conclave::weights {
namespace {

using testing::AsBytes;
using testing::GgufBuilder;
using ::testing::HasSubstr;
using testing::TinyModel;

absl::StatusOr<GgufFile> Parse(std::string_view bytes) {
  return ParseGguf(*FromMemory("tiny.gguf", AsBytes(bytes)));
}

// Replaces the 64-bit number behind the first `marker`.
std::string WithNumberAfter(std::string file, std::string_view marker,
                            size_t skip, uint64_t number) {
  const size_t at = file.find(marker) + marker.size() + skip;
  std::memcpy(file.data() + at, &number, sizeof number);
  return file;
}

TEST(GgufFile, ReadsKeysAndTensors) {
  GgufBuilder builder;
  builder.Int("a.int", 7).Float("a.float", 0.5f).Bool("a.bool", true);
  builder.Text("a.text", "hello").Strings("a.list", {"x", "", "z"});
  builder.Tensor("m", 0, {3, 2}, testing::Floats(6, 1));
  builder.Tensor("v", 8, {32},
                 testing::Quantised(kernels::QuantType::kQ8_0, 32, 2));
  const auto file = Parse(builder.Build());
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(**file->Int("a.int"), 7);
  EXPECT_EQ(**file->Float("a.float"), 0.5);
  EXPECT_EQ(**file->Bool("a.bool"), true);
  EXPECT_EQ(**file->Text("a.text"), "hello");
  EXPECT_FALSE(file->Int("absent")->has_value());
  EXPECT_FALSE(file->Int("a.text").ok());
  const auto list = file->Array("a.list", GgufType::kString);
  EXPECT_THAT((*list)->strings, ::testing::ElementsAre("x", "", "z"));
  ASSERT_EQ(file->tensors.size(), 2u);
  EXPECT_EQ(file->tensors[0].bytes, 24);
  EXPECT_EQ(file->tensors[0].offset, file->data_offset);
  EXPECT_EQ(file->tensors[1].offset, file->data_offset + 32);
  EXPECT_EQ(file->tensors[1].bytes, 34);
}

TEST(GgufFile, EveryTruncationIsRefused) {
  TinyModel tiny;
  tiny.num_layers = 1;
  tiny.hidden = 32;
  tiny.heads = 2;
  tiny.kv_heads = 1;
  tiny.ffn = 32;
  const std::string whole = tiny.Build();
  ASSERT_TRUE(OpenGguf(FromMemory("tiny.gguf", AsBytes(whole))).ok());
  for (size_t size = 0; size < whole.size(); ++size) {
    const auto file = Parse(std::string_view(whole).substr(0, size));
    ASSERT_FALSE(file.ok()) << size;
    ASSERT_EQ(file.status().code(), absl::StatusCode::kInvalidArgument)
        << size << " " << file.status();
    if (size >= 4) {
      ASSERT_THAT(std::string(file.status().message()),
                  ::testing::AnyOf(HasSubstr("offset")))
          << size;
    }
  }
}

TEST(GgufFile, LiesAboutLengthsAreRefusedBeforeMemoryIsTaken) {
  GgufBuilder builder;
  builder.Text("key.text", "value").Strings("key.list", {"a", "b"});
  builder.Ints("key.ints", {1, 2, 3});
  builder.Tensor("tensor", 0, {4, 4}, testing::Floats(16, 1));
  const std::string good = builder.Build();
  ASSERT_TRUE(Parse(good).ok());
  const std::vector<uint64_t> lies = {
      good.size(),          1ull << 20, 1ull << 32,
      1ull << 62,           1ull << 63, 0xffffffffffffffffull,
      0xfffffffffffffff8ull};
  for (const uint64_t lie : lies) {
    // The numbers of tensors and keys; a key's, a text's, a list's length.
    for (const size_t at : {8, 16, 24}) {
      std::string bad = good;
      std::memcpy(bad.data() + at, &lie, sizeof lie);
      EXPECT_FALSE(Parse(bad).ok()) << at << " " << lie;
    }
    EXPECT_FALSE(Parse(WithNumberAfter(good, "key.text", 4, lie)).ok());
    EXPECT_FALSE(Parse(WithNumberAfter(good, "key.list", 8, lie)).ok());
    EXPECT_FALSE(Parse(WithNumberAfter(good, "key.list", 16, lie)).ok());
    EXPECT_FALSE(Parse(WithNumberAfter(good, "key.ints", 8, lie)).ok());
    // A tensor's dimensions and its offset.
    EXPECT_FALSE(Parse(WithNumberAfter(good, "tensor", 4, lie)).ok());
    EXPECT_FALSE(Parse(WithNumberAfter(good, "tensor", 12, lie)).ok());
    EXPECT_FALSE(Parse(WithNumberAfter(good, "tensor", 24, lie)).ok());
  }
}

// Dimensions whose product wraps to something small: the kind of lie that
// passed llama.cpp's first check.
TEST(GgufFile, OverflowingProductIsRefused) {
  GgufBuilder builder;
  builder.Tensor("t", 0, {1ull << 40, 1ull << 24, 1, 1}, std::string(64, 0));
  const auto file = Parse(builder.Build());
  EXPECT_EQ(file.status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(GgufFile, RefusesWhatItCannotRead) {
  std::string file = GgufBuilder().Int("k", 1).Build();
  std::string other = file;
  other[0] = 'X';
  EXPECT_EQ(Parse(other).status().code(), absl::StatusCode::kInvalidArgument);
  other = file;
  other[4] = 2;
  EXPECT_EQ(Parse(other).status().code(), absl::StatusCode::kUnimplemented);
  other = file;
  other[4] = 0;
  other[7] = 3;
  EXPECT_THAT(std::string(Parse(other).status().message()),
              HasSubstr("big-endian"));

  const auto type = Parse(
      GgufBuilder().Tensor("odd", 23, {256}, std::string(256, 0)).Build());
  EXPECT_EQ(type.status().code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(type.status().message()),
              ::testing::AllOf(HasSubstr("odd"), HasSubstr("Q4_K")));
}

TEST(GgufFile, RefusesRepeatedAndOverlappingTensors) {
  const std::string data = testing::Floats(16, 1);
  EXPECT_THAT(std::string(Parse(GgufBuilder()
                                    .Tensor("t", 0, {16}, data)
                                    .Tensor("t", 0, {16}, data)
                                    .Build())
                              .status()
                              .message()),
              HasSubstr("twice"));
  EXPECT_FALSE(Parse(GgufBuilder().Int("k", 1).Int("k", 1).Build()).ok());
  std::string file = GgufBuilder()
                         .Tensor("first", 0, {16}, data)
                         .Tensor("second", 0, {16}, data)
                         .Build();
  file = WithNumberAfter(std::move(file), "second", 16, 32);
  EXPECT_THAT(std::string(Parse(file).status().message()),
              HasSubstr("overlap"));
  file = WithNumberAfter(std::move(file), "second", 16, 33);
  EXPECT_FALSE(Parse(file).ok());
}

TEST(GgufFile, RefusesNestedListsAndBadAlignment) {
  std::string file = GgufBuilder().Ints("key.list", {1, 2}).Build();
  const uint32_t array = 9;
  std::memcpy(file.data() + file.find("key.list") + 12, &array, sizeof array);
  EXPECT_FALSE(Parse(file).ok());
  for (const uint32_t alignment : {0u, 1u, 4u, 24u, 1u << 20}) {
    EXPECT_FALSE(
        Parse(GgufBuilder().Int("general.alignment", alignment).Build()).ok())
        << alignment;
  }
}

// Random damage: any answer but a crash, and never a tensor outside the file.
TEST(GgufFile, RandomDamageNeverReachesOutside) {
  TinyModel tiny;
  tiny.num_layers = 1;
  const std::string good = tiny.Build();
  std::mt19937 random(5);
  int parsed = 0;
  for (int i = 0; i < 3000; ++i) {
    std::string bad = good;
    for (int flips = 0; flips < 3; ++flips) {
      bad[random() % 1600] = static_cast<char>(random());
    }
    const auto file = Parse(bad);
    if (!file.ok()) continue;
    ++parsed;
    for (const GgufTensor& tensor : file->tensors) {
      ASSERT_GE(tensor.offset, file->data_offset);
      ASSERT_LE(tensor.offset + tensor.bytes, static_cast<int64_t>(bad.size()));
    }
  }
  EXPECT_GT(parsed, 0);
}

}  // namespace
}  // namespace conclave::weights
