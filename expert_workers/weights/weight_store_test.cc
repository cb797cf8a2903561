#include "expert_workers/weights/weight_store.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <set>

#include "expert_workers/weights/manifest_codec.h"
#include "expert_workers/weights/test_files.h"

namespace conclave::weights {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::TempDir;
using testing::TinyModel;
using testing::WriteFile;

std::string MessageOf(const absl::Status& status) {
  return std::string(Message(status));
}

absl::Status ReadUnit(WeightStore* store, const UnitInfo& unit,
                      std::string* bytes = nullptr) {
  for (size_t i = 0; i < unit.record_bytes.size(); ++i) {
    std::vector<std::byte> record(static_cast<size_t>(unit.record_bytes[i]));
    RETURN_IF_ERROR(store->ReadRecord(unit, i, record));
    if (bytes != nullptr) {
      bytes->append(reinterpret_cast<const char*>(record.data()),
                    record.size());
    }
  }
  return absl::OkStatus();
}

absl::Status ReadModel(WeightStore* store, std::string_view name,
                       std::string* bytes = nullptr) {
  ASSIGN_OR_RETURN(const auto manifest, store->Manifest(name));
  for (const UnitInfo& unit : manifest->units) {
    RETURN_IF_ERROR(ReadUnit(store, unit, bytes));
  }
  return absl::OkStatus();
}

std::vector<std::string> SegmentFiles(const std::string& directory) {
  std::vector<std::string> files;
  for (const auto& entry :
       std::filesystem::recursive_directory_iterator(directory)) {
    if (entry.path().extension() == ".sst") files.push_back(entry.path());
  }
  std::ranges::sort(files);
  return files;
}

class WeightStoreTest : public ::testing::Test {
 protected:
  void SetUp() override { Reopen(); }

  void Reopen() {
    store_.reset();
    auto store = WeightStore::Open({.path = directory_ / "store"});
    ASSERT_TRUE(store.ok()) << store.status();
    store_ = *std::move(store);
  }

  std::string File(std::string_view name, const TinyModel& model) {
    const std::string path = directory_ / name;
    WriteFile(path, model.Build());
    return path;
  }

  absl::StatusOr<ModelEntry> Import(const TinyModel& model,
                                    const std::string& name) {
    return store_->Import(File(name + ".gguf", model), name, nullptr);
  }

  const TempDir directory_;
  std::unique_ptr<WeightStore> store_;
};

TEST_F(WeightStoreTest, AnImportSurvivesReopening) {
  ASSERT_TRUE(Import(TinyModel(), "tiny").ok());
  std::string before;
  ASSERT_TRUE(ReadModel(store_.get(), "tiny", &before).ok());
  const auto manifest = *store_->Manifest("tiny");
  Reopen();
  std::string after;
  ASSERT_TRUE(ReadModel(store_.get(), "tiny", &after).ok());
  EXPECT_EQ(before, after);
  const auto again = *store_->Manifest(manifest->version);
  EXPECT_EQ(EncodeManifest(*again), EncodeManifest(*manifest));
  const std::vector<ModelEntry> list = store_->List();
  ASSERT_EQ(list.size(), 1u);
  EXPECT_EQ(list[0].name, "tiny");
  EXPECT_EQ(list[0].source, "tiny.gguf");
  EXPECT_EQ(list[0].version, manifest->version);
}

TEST_F(WeightStoreTest, TheSameFileGivesTheSameVersion) {
  const auto first = Import(TinyModel(), "one");
  const auto again = Import(TinyModel(), "one");
  const auto other_name = Import(TinyModel(), "two");
  ASSERT_TRUE(first.ok() && again.ok() && other_name.ok());
  EXPECT_EQ(first->version, again->version);
  EXPECT_EQ(first->version, other_name->version);
  EXPECT_EQ(store_->List().size(), 2u);
  // And elsewhere, at another time.
  const TempDir elsewhere;
  auto store = WeightStore::Open({.path = elsewhere / "store"});
  const auto third = (*store)->Import(directory_ / "one.gguf", "x", nullptr);
  EXPECT_EQ(first->version, third->version);
}

TEST_F(WeightStoreTest, ANameIsNotTakenTwice) {
  ASSERT_TRUE(Import(TinyModel(), "tiny").ok());
  TinyModel other;
  other.seed = 2;
  const auto status = Import(other, "tiny").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kAlreadyExists);
  EXPECT_THAT(MessageOf(status), HasSubstr("remove it first"));
  EXPECT_EQ(Import(other, "../tiny").status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST_F(WeightStoreTest, UnknownNamesSuggestTheNearest) {
  ASSERT_TRUE(Import(TinyModel(), "tiny").ok());
  const auto status = store_->Manifest("tinny").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(MessageOf(status), HasSubstr("tiny"));
  EXPECT_EQ(store_->Remove("tinny").code(), absl::StatusCode::kNotFound);
}

TEST_F(WeightStoreTest, SharedUnitsAreStoredOnce) {
  ASSERT_TRUE(Import(TinyModel(), "base").ok());
  EXPECT_EQ(SegmentFiles(directory_.path()).size(), 6u);
  TinyModel tuned;  // Shares embedding, layer 0 and head.
  tuned.first_different_layer = 1;
  ASSERT_TRUE(Import(tuned, "tuned").ok());
  EXPECT_EQ(SegmentFiles(directory_.path()).size(), 8u);
  const auto a = *store_->Manifest("base");
  const auto b = *store_->Manifest("tuned");
  EXPECT_EQ(a->units[1].digest, b->units[1].digest);
  EXPECT_NE(a->units[3].digest, b->units[3].digest);

  // What the other model uses stays, across a restart, too.
  ASSERT_TRUE(store_->Remove("base").ok());
  EXPECT_TRUE(ReadModel(store_.get(), "tuned").ok());
  EXPECT_EQ(ReadUnit(store_.get(), a->units[3]).code(),
            absl::StatusCode::kNotFound);
  Reopen();
  EXPECT_TRUE(ReadModel(store_.get(), "tuned").ok());
  EXPECT_EQ(SegmentFiles(directory_.path()).size(), 6u + 1u);  // And meta's.
  ASSERT_TRUE(store_->Remove("tuned").ok());
  EXPECT_TRUE(store_->List().empty());
  Reopen();
  EXPECT_TRUE(store_->List().empty());
  EXPECT_LE(SegmentFiles(directory_.path()).size(), 2u);  // Only meta's.
}

TEST_F(WeightStoreTest, EqualLayersAreStoredOnceWithinAModel) {
  // Two layers of the same bytes: the second copies the first's tensors.
  std::string two = TinyModel().Build();
  const auto parsed = ParseGguf(*FromMemory("t", testing::AsBytes(two)));
  ASSERT_TRUE(parsed.ok());
  for (const GgufTensor& to : parsed->tensors) {
    if (!to.name.starts_with("blk.1.")) continue;
    for (const GgufTensor& from : parsed->tensors) {
      if (from.name == "blk.0." + to.name.substr(6)) {
        two.replace(
            static_cast<size_t>(to.offset), static_cast<size_t>(to.bytes), two,
            static_cast<size_t>(from.offset), static_cast<size_t>(from.bytes));
      }
    }
  }
  WriteFile(directory_ / "twice.gguf", two);
  ASSERT_TRUE(store_->Import(directory_ / "twice.gguf", "twice", nullptr).ok());
  EXPECT_EQ(SegmentFiles(directory_.path()).size(), 4u);
  EXPECT_TRUE(ReadModel(store_.get(), "twice").ok());
  ASSERT_TRUE(store_->Remove("twice").ok());
  EXPECT_TRUE(store_->List().empty());
}

TEST_F(WeightStoreTest, BadFilesLeaveNothing) {
  std::string file = TinyModel().Build();
  file.resize(file.size() - 1);
  WriteFile(directory_ / "bad.gguf", file);
  const auto status =
      store_->Import(directory_ / "bad.gguf", "bad", nullptr).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(MessageOf(status),
              AllOf(HasSubstr("bad.gguf"), HasSubstr("offset")));
  EXPECT_EQ(store_->Import(directory_ / "absent", "x", nullptr).status().code(),
            absl::StatusCode::kNotFound);
  WriteFile(directory_ / "model.bin", "\x80\x02}q\x00.");
  EXPECT_EQ(
      store_->Import(directory_ / "model.bin", "x", nullptr).status().code(),
      absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(store_->List().empty());
  EXPECT_TRUE(SegmentFiles(directory_.path()).empty());
}

TEST_F(WeightStoreTest, AFileThatShrinksMeanwhileIsAborted) {
  const std::string path = File("tiny.gguf", TinyModel());
  const auto status = store_
                          ->Import(path, "tiny",
                                   [&path](int64_t, int64_t) {
                                     std::filesystem::resize_file(path, 5000);
                                     return absl::OkStatus();
                                   })
                          .status();
  EXPECT_EQ(status.code(), absl::StatusCode::kAborted) << status;
  EXPECT_TRUE(store_->List().empty());
  EXPECT_TRUE(SegmentFiles(directory_.path()).empty());
}

TEST_F(WeightStoreTest, AnImportThatIsStoppedLeavesNothing) {
  TinyModel model;
  model.num_layers = 4;
  const std::string path = File("tiny.gguf", model);
  int64_t all = 0;
  int calls = 0;
  ASSERT_TRUE(store_
                  ->Import(path, "whole",
                           [&](int64_t, int64_t total) {
                             all = total;
                             ++calls;
                             return absl::OkStatus();
                           })
                  .ok());
  ASSERT_TRUE(store_->Remove("whole").ok());
  ASSERT_GT(calls, 3);
  // At the first record, in the middle, and after the last one.
  for (const int64_t enough : {int64_t{1}, all / 2, all}) {
    const auto status = store_
                            ->Import(path, "tiny",
                                     [&](int64_t done, int64_t) {
                                       return done < enough
                                                  ? absl::OkStatus()
                                                  : Cancelled("enough");
                                     })
                            .status();
    EXPECT_EQ(status.code(), absl::StatusCode::kCancelled) << status;
    EXPECT_TRUE(store_->List().empty());
    EXPECT_TRUE(SegmentFiles(directory_ / "store/import").empty());
  }
  ASSERT_TRUE(Import(model, "tiny").ok());
  EXPECT_TRUE(ReadModel(store_.get(), "tiny").ok());
}

TEST_F(WeightStoreTest, NoSpaceIsRefusedWithTheNumbers) {
  store_.reset();
  auto store = WeightStore::Open(
      {.path = directory_ / "store", .reserve_bytes = int64_t{1} << 60});
  ASSERT_TRUE(store.ok());
  const auto status =
      (*store)
          ->Import(File("tiny.gguf", TinyModel()), "tiny", nullptr)
          .status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(MessageOf(status), AllOf(HasSubstr("packed"), HasSubstr("free")));
}

TEST_F(WeightStoreTest, TheDirectoryIsHeldByOne) {
  const auto second = WeightStore::Open({.path = directory_ / "store"});
  EXPECT_EQ(second.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(MessageOf(second.status()),
              AllOf(HasSubstr(directory_ / "store"), HasSubstr("--server")));
  WriteFile(directory_ / "file", "");
  EXPECT_EQ(WeightStore::Open({.path = directory_ / "file"}).status().code(),
            absl::StatusCode::kPermissionDenied);
}

// Flips one bit at a time in the files of a model that is stored alone.
class DamageTest : public WeightStoreTest {
 protected:
  void SetUp() override {
    WeightStoreTest::SetUp();
    ASSERT_TRUE(Import(TinyModel(), "victim").ok());
    TinyModel other;
    other.seed = 9;
    ASSERT_TRUE(Import(other, "healthy").ok());
    ASSERT_TRUE(ReadModel(store_.get(), "victim", &victim_).ok());
    ASSERT_TRUE(ReadModel(store_.get(), "healthy", &healthy_).ok());
    store_.reset();
    // Which file holds layer 1 of the victim.
    std::string layer;
    Reopen();
    layer_ = (*store_->Manifest("victim"))->units[3];
    ASSERT_TRUE(ReadUnit(store_.get(), layer_, &layer).ok());
    store_.reset();
    for (const std::string& path : SegmentFiles(directory_.path())) {
      std::ifstream in(path, std::ios::binary);
      const std::string bytes((std::istreambuf_iterator<char>(in)), {});
      const size_t at = bytes.find(layer.substr(0, 256));
      if (at == std::string::npos) continue;
      path_ = path;
      payload_ = at;
      size_ = bytes.size();
    }
    ASSERT_FALSE(path_.empty());
  }

  void Flip(size_t at) {
    const int fd = ::open(path_.c_str(), O_RDWR);
    ASSERT_GE(fd, 0);
    char byte = 0;
    ASSERT_EQ(::pread(fd, &byte, 1, static_cast<off_t>(at)), 1);
    byte = static_cast<char>(byte ^ 16);
    ASSERT_EQ(::pwrite(fd, &byte, 1, static_cast<off_t>(at)), 1);
    ::close(fd);
  }

  // Whatever is damaged: the right bytes or DATA_LOSS, the neighbour intact.
  void ExpectNeverServed(const std::string& what, bool must_fail) {
    auto store = WeightStore::Open({.path = directory_ / "store"});
    ASSERT_TRUE(store.ok()) << what << ": " << store.status();
    std::string bytes;
    const absl::Status status = ReadModel(store->get(), "victim", &bytes);
    if (status.ok()) {
      ASSERT_FALSE(must_fail) << what;
      ASSERT_EQ(bytes, victim_) << what;
    } else {
      ASSERT_EQ(status.code(), absl::StatusCode::kDataLoss)
          << what << ": " << status;
      ASSERT_THAT(MessageOf(status),
                  AllOf(HasSubstr("victim"), HasSubstr("layer.1")));
    }
    bytes.clear();
    ASSERT_TRUE(ReadModel(store->get(), "healthy", &bytes).ok()) << what;
    ASSERT_EQ(bytes, healthy_) << what;
  }

  UnitInfo layer_;
  std::string victim_, healthy_;
  std::string path_;
  size_t payload_ = 0;  // where the record's payload begins
  size_t size_ = 0;
};

TEST_F(DamageTest, AFlippedBitInAPayloadIsDataLoss) {
  const auto payload = static_cast<size_t>(layer_.record_bytes[0]);
  for (const size_t at :
       {size_t{0}, size_t{1}, payload / 3, payload / 2, payload - 1}) {
    Flip(payload_ + at);
    ExpectNeverServed("payload byte " + std::to_string(at), true);
    Flip(payload_ + at);
  }
  ExpectNeverServed("nothing", false);
}

// The block's own structure, the index, the properties and the footer: read
// without RocksDB's checksum, so a flip must not crash it either.
TEST_F(DamageTest, AFlippedBitInTheStructureNeverCrashes) {
  std::vector<size_t> places;
  for (size_t at = 0; at < payload_; ++at) places.push_back(at);
  const size_t end = payload_ + static_cast<size_t>(layer_.record_bytes[0]);
  for (size_t at = end; at < std::min(size_, end + 64); ++at) {
    places.push_back(at);
  }
  for (size_t at = end + 64; at < size_; at += 37) places.push_back(at);
  for (const size_t at : places) {
    Flip(at);
    ExpectNeverServed("file byte " + std::to_string(at), false);
    Flip(at);
  }
}

TEST_F(DamageTest, AShortOrMissingFileLosesOneUnit) {
  std::filesystem::resize_file(path_, size_ / 2);
  ExpectNeverServed("half a file", true);
  std::filesystem::remove(path_);
  ExpectNeverServed("no file", true);
}

TEST_F(DamageTest, ADamagedModelCanBeRemovedAndImportedAgain) {
  Flip(payload_ + 5);
  Reopen();
  ASSERT_FALSE(ReadModel(store_.get(), "victim").ok());
  ASSERT_TRUE(store_->Remove("victim").ok());
  ASSERT_TRUE(
      store_->Import(directory_ / "victim.gguf", "victim", nullptr).ok());
  std::string bytes;
  ASSERT_TRUE(ReadModel(store_.get(), "victim", &bytes).ok());
  EXPECT_EQ(bytes, victim_);
}

TEST(ManifestCodec, EveryTruncationIsDataLoss) {
  const TempDir directory;
  auto store = WeightStore::Open({.path = directory / "store"});
  WriteFile(directory / "tiny.gguf", TinyModel().Build());
  ASSERT_TRUE((*store)->Import(directory / "tiny.gguf", "tiny", nullptr).ok());
  const auto manifest = *(*store)->Manifest("tiny");
  const std::string whole = EncodeManifest(*manifest);
  EXPECT_EQ(VersionOf(whole), manifest->version);
  EXPECT_TRUE(DecodeManifest(whole, manifest->version).ok());
  for (size_t size = 0; size < whole.size(); ++size) {
    const std::string part = whole.substr(0, size);
    // With its own hash, so that the parser itself is tried.
    ASSERT_EQ(DecodeManifest(part, VersionOf(part)).status().code(),
              absl::StatusCode::kDataLoss)
        << size;
  }
  std::string flipped = whole;
  flipped[whole.size() / 2] ^= 1;
  EXPECT_FALSE(DecodeManifest(flipped, manifest->version).ok());
}

}  // namespace
}  // namespace conclave::weights
