// kill -9 in the middle of an import, again and again: the store holds the old
// state or the new one, and nothing of the killed one stays on the disk.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <random>
#include <set>
#include <thread>

#include "expert_workers/weights/test_files.h"
#include "expert_workers/weights/weight_store.h"

namespace conclave::weights {
namespace {

using testing::TempDir;
using testing::TinyModel;

constexpr char kStoreVariable[] = "CONCLAVE_TEST_IMPORT_STORE";
constexpr char kFileVariable[] = "CONCLAVE_TEST_IMPORT_FILE";

// What the child runs: this very program, told to run this test alone.
TEST(DISABLED_ImportChild, Run) {
  const char* path = std::getenv(kStoreVariable);
  const char* file = std::getenv(kFileVariable);
  ASSERT_TRUE(path != nullptr && file != nullptr);
  auto store = WeightStore::Open({.path = path});
  ASSERT_TRUE(store.ok()) << store.status();
  const auto entry = (*store)->Import(file, "new", nullptr);
  ASSERT_TRUE(entry.ok()) << entry.status();
  // Acknowledged: from here on the import may not be lost.
  ASSERT_EQ(::write(STDOUT_FILENO, "", 1), 1);
}

class Child {
 public:
  Child(const std::string& store, const std::string& file) {
    EXPECT_EQ(::pipe(pipe_), 0);
    pid_ = ::fork();
    if (pid_ == 0) {
      ::setenv(kStoreVariable, store.c_str(), 1);
      ::setenv(kFileVariable, file.c_str(), 1);
      ::dup2(pipe_[1], STDOUT_FILENO);
      ::close(pipe_[0]);
      ::close(pipe_[1]);
      ::execl("/proc/self/exe", "import", "--gtest_also_run_disabled_tests",
              "--gtest_filter=DISABLED_ImportChild.Run", "--gtest_brief=1",
              nullptr);
      ::_exit(127);
    }
    ::close(pipe_[1]);
  }
  ~Child() { ::close(pipe_[0]); }

  // True when the import was acknowledged before the end.
  bool KillAfter(std::chrono::microseconds delay) {
    std::this_thread::sleep_for(delay);
    ::kill(pid_, SIGKILL);
    return Wait();
  }
  bool Wait() {
    int status = 0;
    EXPECT_EQ(::waitpid(pid_, &status, 0), pid_);
    bool acknowledged = false;
    char byte = 1;
    // The acknowledgement is a zero byte among gtest's lines.
    while (::read(pipe_[0], &byte, 1) == 1) acknowledged |= byte == 0;
    return acknowledged;
  }

 private:
  int pipe_[2] = {-1, -1};
  pid_t pid_ = -1;
};

absl::StatusOr<std::string> ReadModel(WeightStore* store,
                                      std::string_view name) {
  ASSIGN_OR_RETURN(const auto manifest, store->Manifest(name));
  std::string bytes;
  for (const UnitInfo& unit : manifest->units) {
    for (size_t i = 0; i < unit.record_bytes.size(); ++i) {
      std::string record(static_cast<size_t>(unit.record_bytes[i]), '\0');
      RETURN_IF_ERROR(store->ReadRecord(
          unit, i, std::as_writable_bytes(std::span(record))));
      bytes += record;
    }
  }
  return bytes;
}

int64_t BytesOnDisk(const std::string& directory) {
  int64_t bytes = 0;
  for (const auto& entry :
       std::filesystem::recursive_directory_iterator(directory)) {
    if (entry.path().extension() == ".sst") {
      // RocksDB may delete it meanwhile.
      std::error_code gone;
      const auto size = std::filesystem::file_size(entry.path(), gone);
      if (!gone) bytes += static_cast<int64_t>(size);
    }
  }
  return bytes;
}

TEST(ImportKill, LeavesTheOldStateOrTheNew) {
  const TempDir directory;
  TinyModel model;
  testing::WriteFile(directory / "old.gguf", model.Build());
  model.seed = 2;
  model.num_layers = 6;
  model.hidden = 256;
  model.vocab = 4000;
  model.ffn = 2048;
  testing::WriteFile(directory / "new.gguf", model.Build());
  const std::string path = directory / "store";

  std::string old_bytes;
  std::string new_bytes;
  {
    auto store = WeightStore::Open({.path = path});
    ASSERT_TRUE(store.ok()) << store.status();
    ASSERT_TRUE((*store)->Import(directory / "old.gguf", "old", nullptr).ok());
    old_bytes = *ReadModel(store->get(), "old");
    ASSERT_TRUE((*store)->Import(directory / "new.gguf", "new", nullptr).ok());
    new_bytes = *ReadModel(store->get(), "new");
    ASSERT_TRUE((*store)->Remove("new").ok());
  }
  // How long the child takes, start to end.
  const auto start = std::chrono::steady_clock::now();
  ASSERT_TRUE(Child(path, directory / "new.gguf").Wait());
  const auto whole = std::chrono::duration_cast<std::chrono::microseconds>(
      std::chrono::steady_clock::now() - start);

  const char* more = std::getenv("CONCLAVE_KILLS");
  const int kills = more != nullptr ? std::atoi(more) : 27;
  const uint64_t seed = std::random_device{}();
  SCOPED_TRACE(::testing::Message() << "seed " << seed);
  std::mt19937_64 random(seed);
  int found_new = 0;
  for (int i = 0; i < kills; ++i) {
    {
      auto store = WeightStore::Open({.path = path});
      ASSERT_TRUE(store.ok()) << store.status();
      if (store.value()->Manifest("new").ok()) {
        ASSERT_TRUE((*store)->Remove("new").ok());
      }
    }
    const std::chrono::microseconds delay(
        random() % static_cast<uint64_t>(whole.count() * 11 / 10));
    Child child(path, directory / "new.gguf");
    const bool acknowledged = child.KillAfter(delay);

    auto store = WeightStore::Open({.path = path});
    ASSERT_TRUE(store.ok()) << store.status();
    std::set<std::string> names;
    for (const ModelEntry& entry : (*store)->List()) names.insert(entry.name);
    ASSERT_TRUE(names.contains("old"));
    const auto old_now = ReadModel(store->get(), "old");
    ASSERT_TRUE(old_now.ok()) << old_now.status();
    ASSERT_EQ(*old_now, old_bytes);
    int64_t expected = static_cast<int64_t>(old_bytes.size());
    if (names.contains("new")) {
      ++found_new;
      const auto new_now = ReadModel(store->get(), "new");
      ASSERT_TRUE(new_now.ok()) << new_now.status();
      ASSERT_EQ(*new_now, new_bytes);
      expected += static_cast<int64_t>(new_bytes.size());
    } else {
      ASSERT_FALSE(acknowledged) << "killed after " << delay.count() << " us";
    }
    // No orphans: units, and a little for indices and the catalogue.
    ASSERT_LT(BytesOnDisk(path), expected + (1 << 20));
  }
  ::testing::Test::RecordProperty("found_new", found_new);
  // The last state takes an import as if nothing had happened.
  Child last(path, directory / "new.gguf");
  EXPECT_TRUE(last.Wait());
}

}  // namespace
}  // namespace conclave::weights
