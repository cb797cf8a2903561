#include "registry/rocksdb_registry.h"

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>

#include "registry/durable_map.h"
#include "tests/contract/registry_contract.h"

namespace conclave::registry {
namespace {

// A folder of its own, removed at the end.
class TempDir {
 public:
  TempDir() {
    std::string pattern =
        (std::filesystem::temp_directory_path() / "registry-XXXXXX").string();
    path_ = mkdtemp(pattern.data());
  }
  ~TempDir() { std::filesystem::remove_all(path_); }
  std::string operator/(const std::string& name) const {
    return (path_ / name).string();
  }

 private:
  std::filesystem::path path_;
};

class RocksDbFixture final : public RegistryFixture {
 public:
  std::unique_ptr<Registry> Open() override {
    auto registry =
        OpenRocksDbRegistry({.path = dir_ / "registry", .clock = &clock});
    EXPECT_TRUE(registry.ok()) << registry.status();
    return registry.ok() ? std::move(registry).value() : nullptr;
  }

 private:
  TempDir dir_;
};

INSTANTIATE_TEST_SUITE_P(
    RocksDb, RegistryContract,
    testing::Values(+[]() -> std::unique_ptr<RegistryFixture> {
      return std::make_unique<RocksDbFixture>();
    }));

absl::StatusOr<std::unique_ptr<Registry>> OpenAt(const std::string& path) {
  return OpenRocksDbRegistry({.path = path});
}

TEST(RocksDbRegistryTest, ASecondHolderIsTurnedAway) {
  const TempDir dir;
  const auto first = OpenAt(dir / "r");
  ASSERT_OK_STATUS(first);
  EXPECT_STATUS(OpenAt(dir / "r"), kUnavailable, "held by another process");
}

TEST(RocksDbRegistryTest, AFileInTheWayIsNamed) {
  const TempDir dir;
  std::ofstream(dir / "file") << "x";
  EXPECT_STATUS(OpenAt(dir / "file"), kInvalidArgument, "data-dir");
  EXPECT_STATUS(OpenAt(dir / "file/r"), kInvalidArgument, "data-dir");
}

// As they were stored before aliases had versions.
TEST(RocksDbRegistryTest, AnAliasWithoutAVersionIsRead) {
  const TempDir dir;
  {
    auto registry = OpenAt(dir / "r").value();
    ExpertSpec spec;
    spec.name = "chat";
    spec.endpoint.url = "http://h/v1";
    spec.categories = {"general"};
    ASSERT_OK_STATUS(registry->RegisterExpert(spec, ""));
  }
  {
    auto map = DurableMap::Open(dir / "r").value();
    ASSERT_OK_STATUS(map->Apply({{"a/best", "chat"}}));
  }
  auto registry = OpenAt(dir / "r").value();
  EXPECT_EQ(registry->snapshot()->aliases.at("best"),
            (AliasRecord{.expert = "chat", .version = 1}));
  ASSERT_OK_STATUS(registry->SetAlias("best", "chat", 1, ""));
}

TEST(RocksDbRegistryTest, OldKeysAreForgottenNotTheNewest) {
  const TempDir dir;
  const RocksDbRegistryOptions options{.path = dir / "r",
                                       .max_idempotency_keys = 3};
  const auto open = [&] { return OpenRocksDbRegistry(options).value(); };
  auto registry = open();
  ExpertSpec spec;
  spec.endpoint.url = "http://h/v1";
  spec.categories = {"general"};
  for (int i = 0; i < 5; ++i) {
    spec.name = fmt::format("e{}", i);
    ASSERT_OK_STATUS(registry->RegisterExpert(spec, spec.name));
  }
  for (int round = 0; round < 2; ++round) {
    for (int i = 0; i < 5; ++i) {
      spec.name = fmt::format("e{}", i);
      EXPECT_EQ(registry->RegisterExpert(spec, spec.name).ok(), i >= 2) << i;
    }
    registry.reset();
    registry = open();
  }
}

// A write that the disk refuses changes nothing, and the registry goes on
// when there is room again. The limit on file size stands in for a full disk.
TEST(RocksDbRegistryTest, ADiskThatRefusesLeavesTheOldState) {
  const TempDir dir;
  auto registry = OpenAt(dir / "r").value();
  ExpertSpec spec;
  spec.name = "first";
  spec.endpoint.url = "http://h/v1";
  spec.categories = {"general"};
  ASSERT_OK_STATUS(registry->RegisterExpert(spec, ""));

  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto previous = std::signal(SIGXFSZ, SIG_IGN);
  rlimit tight = before;
  tight.rlim_cur = 64 << 10;
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &tight), 0);
  spec.name = "second";
  spec.samples.assign(100, {std::string(4000, 'x'), ""});
  const auto refused = registry->RegisterExpert(spec, "key");
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
  std::signal(SIGXFSZ, previous);

  EXPECT_FALSE(refused.ok());
  EXPECT_FALSE(registry->snapshot()->experts.contains("second"));
  const auto again = registry->RegisterExpert(spec, "key");
  ASSERT_OK_STATUS(again);
  registry.reset();
  registry = OpenAt(dir / "r").value();
  EXPECT_EQ(registry->snapshot()->experts.size(), 2u);
  EXPECT_EQ(*registry->snapshot()->experts.at("second"), *again);
}

TEST(RocksDbRegistryTest, DamageIsReportedNotServed) {
  const TempDir dir;
  {
    auto registry = OpenAt(dir / "r").value();
    ExpertSpec spec;
    spec.name = "e";
    spec.endpoint.url = "http://h/v1";
    spec.categories = {"general"};
    spec.samples.assign(20, {std::string(4000, 'x'), ""});
    ASSERT_OK_STATUS(registry->RegisterExpert(spec, ""));
    spec.name = "e2";
    ASSERT_OK_STATUS(registry->RegisterExpert(spec, ""));
  }
  int flipped = 0;
  for (const auto& entry : std::filesystem::directory_iterator(dir / "r")) {
    if (entry.path().extension() != ".log" || entry.file_size() < 50'000) {
      continue;
    }
    std::fstream file(entry.path(),
                      std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(40'000);
    file.put('y');
    ++flipped;
  }
  ASSERT_EQ(flipped, 1);
  EXPECT_STATUS(OpenAt(dir / "r"), kDataLoss, "damaged");
}

constexpr char kPathVariable[] = "CONCLAVE_TEST_REGISTRY";
constexpr char kRoundVariable[] = "CONCLAVE_TEST_ROUND";

void Say(const std::string& line) {
  ASSERT_EQ(write(STDOUT_FILENO, line.data(), line.size()),
            static_cast<ssize_t>(line.size()));
}

// What the child runs: this very program, told to run this test alone. (A fork
// by itself has RocksDB without its threads: it stops at the first compaction.)
// Registers experts for ever, and says each name once it is acknowledged.
TEST(DISABLED_RegistryChild, RegistersForEver) {
  const char* path = std::getenv(kPathVariable);
  const char* round = std::getenv(kRoundVariable);
  ASSERT_TRUE(path != nullptr && round != nullptr);
  const auto registry = OpenAt(path);
  ASSERT_OK_STATUS(registry);
  ExpertSpec spec;
  spec.endpoint.url = "http://h/v1";
  spec.categories = {"general"};
  spec.samples.assign(8, {std::string(500, 's'), ""});
  for (int i = 0;; ++i) {
    spec.name = fmt::format("r{}-{}", round, i);
    ASSERT_OK_STATUS((*registry)->RegisterExpert(spec, spec.name));
    // Every third is removed again: a lost removal would be a loss too.
    Say("+" + spec.name + "\n");
    if (i % 3 != 2) continue;
    Say("?" + spec.name + "\n");  // From here on either is right.
    ASSERT_OK_STATUS((*registry)->RemoveExpert(spec.name, 0, ""));
    Say("-" + spec.name + "\n");
  }
}

// The child, and what it says.
class RegistryChild {
 public:
  RegistryChild(const std::string& path, int round) {
    EXPECT_EQ(pipe(pipe_), 0);
    pid_ = fork();
    if (pid_ == 0) {
      setenv(kPathVariable, path.c_str(), 1);
      setenv(kRoundVariable, std::to_string(round).c_str(), 1);
      dup2(pipe_[1], STDOUT_FILENO);
      close(pipe_[0]);
      close(pipe_[1]);
      execl("/proc/self/exe", "registry", "--gtest_also_run_disabled_tests",
            "--gtest_filter=DISABLED_RegistryChild.*", "--gtest_brief=1",
            nullptr);
      _exit(127);
    }
    close(pipe_[1]);
  }
  ~RegistryChild() { close(pipe_[0]); }

  // False at the end of what it said.
  bool Read() {
    char buffer[4096];
    const ssize_t n = read(pipe_[0], buffer, sizeof buffer);
    if (n > 0) said_.append(buffer, static_cast<size_t>(n));
    return n > 0;
  }
  bool HasAcknowledged() const { return said_.find('+') != std::string::npos; }
  // Kills it, and gives all it said, line by line. False when it had left by
  // itself.
  bool Kill(std::vector<std::string>& lines) {
    kill(pid_, SIGKILL);
    int status = 0;
    EXPECT_EQ(waitpid(pid_, &status, 0), pid_);
    while (Read()) {
    }
    std::istringstream in(said_);
    for (std::string line; std::getline(in, line);) {
      // gtest speaks too.
      if (line.size() > 2 && std::strchr("+-?", line[0]) && line[1] == 'r') {
        lines.push_back(line);
      }
    }
    return WIFSIGNALED(status);
  }
  const std::string& said() const { return said_; }

 private:
  int pipe_[2] = {-1, -1};
  pid_t pid_ = -1;
  std::string said_;
};

// CONCLAVE_KILLS asks for more rounds.
TEST(RocksDbRegistryTest, NothingAcknowledgedIsLostByKill9) {
#ifdef __SANITIZE_THREAD__
  GTEST_SKIP() << "ThreadSanitizer does not follow threads through fork";
#endif
  const char* asked = std::getenv("CONCLAVE_KILLS");
  const int kills = asked != nullptr ? std::atoi(asked) : 40;
  const TempDir dir;
  const std::string path = dir / "r";
  std::mt19937 random(20261122);
  std::map<std::string, char> expected;  // name -> '+' there, '-' gone, '?'
  int acknowledged = 0;
  for (int round = 0; round < kills; ++round) {
    RegistryChild child(path, round);
    // Three times of four the moment is after the first acknowledgement,
    // however slow the machine; else it may be while the registry opens.
    while (round % 4 != 0 && !child.HasAcknowledged()) {
      ASSERT_TRUE(child.Read()) << "the child left: " << child.said();
    }
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 60'000));
    std::vector<std::string> lines;
    ASSERT_TRUE(child.Kill(lines)) << "the child left: " << child.said();
    for (const std::string& line : lines) {
      expected[line.substr(1)] = line[0];
      acknowledged += line[0] != '?';
    }

    const auto registry = OpenAt(path);
    ASSERT_OK_STATUS(registry);
    const auto state = (*registry)->snapshot();
    for (const auto& [name, what] : expected) {
      if (what == '?') continue;
      ASSERT_EQ(state->experts.contains(name), what == '+')
          << name << " after kill " << round;
    }
    // So that a long run stays far from the limit on experts.
    if (state->experts.size() < 200) continue;
    for (const auto& [name, expert] : state->experts) {
      ASSERT_OK_STATUS((*registry)->RemoveExpert(name, 0, ""));
      expected[name] = '-';
    }
  }
  EXPECT_GE(acknowledged, kills / 2)
      << "killed before there was anything to lose";
  RecordProperty("acknowledged", acknowledged);
  printf("%d kills, %d acknowledged changes, none lost\n", kills, acknowledged);
}

}  // namespace
}  // namespace conclave::registry
