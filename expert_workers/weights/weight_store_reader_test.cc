#include "expert_workers/weights/weight_store_reader.h"

#include <gtest/gtest.h>

#include "expert_workers/weights/test_files.h"

namespace conclave::weights {
namespace {

using testing::TempDir;
using testing::TinyModel;
using testing::WriteFile;

TEST(WeightStoreReaderTest, NobodyThereSaysWhatToDo) {
  const auto reader = OpenWeightStoreReader("/nonexistent");
  EXPECT_EQ(reader.status().code(), absl::StatusCode::kNotFound);
  EXPECT_NE(Message(reader.status()).find("import"), std::string_view::npos);
}

TEST(WeightStoreReaderTest, SeesWhatTheOwnerImportsAndTheSameBytes) {
  const TempDir directory;
  auto owner = WeightStore::Open({.path = directory / "store"});
  ASSERT_TRUE(owner.ok()) << owner.status();
  auto reader =
      WeightStore::Open({.path = directory / "store", .read_only = true});
  ASSERT_TRUE(reader.ok()) << reader.status();
  EXPECT_TRUE((*reader)->List().empty());
  EXPECT_EQ((*reader)->Manifest("tiny").status().code(),
            absl::StatusCode::kNotFound);

  WriteFile(directory / "tiny.gguf", TinyModel().Build());
  ASSERT_TRUE((*owner)->Import(directory / "tiny.gguf", "tiny", nullptr).ok());
  const auto manifest = (*reader)->Manifest("tiny");
  ASSERT_TRUE(manifest.ok()) << manifest.status();
  EXPECT_EQ((*reader)->List().size(), 1u);
  for (const UnitInfo& unit : (*manifest)->units) {
    for (size_t i = 0; i < unit.record_bytes.size(); ++i) {
      std::vector<std::byte> mine(static_cast<size_t>(unit.record_bytes[i]));
      std::vector<std::byte> theirs(mine.size());
      ASSERT_TRUE((*reader)->ReadRecord(unit, i, mine).ok());
      ASSERT_TRUE((*owner)->ReadRecord(unit, i, theirs).ok());
      EXPECT_EQ(mine, theirs);
    }
  }
  EXPECT_EQ((*reader)->Remove("tiny").code(),
            absl::StatusCode::kFailedPrecondition);
  ASSERT_TRUE((*owner)->Remove("tiny").ok());
  EXPECT_TRUE((*reader)->List().empty());
}

}  // namespace
}  // namespace conclave::weights
