#include "registry/rocksdb_registry.h"

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <random>

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

#ifdef __SANITIZE_THREAD__
// The child of kill -9 starts threads, which ThreadSanitizer forbids to forks.
extern "C" const char* __tsan_default_options() { return "die_after_fork=0"; }
#endif

// In the child: registers experts for ever, and says each name once it is
// acknowledged.
[[noreturn]] void RegisterForEver(const std::string& path, int out, int round) {
  auto registry = OpenAt(path);
  if (!registry.ok()) _exit(2);
  ExpertSpec spec;
  spec.endpoint.url = "http://h/v1";
  spec.categories = {"general"};
  spec.samples.assign(8, {std::string(500, 's'), ""});
  for (int i = 0;; ++i) {
    spec.name = fmt::format("r{}-{}", round, i);
    if (!(*registry)->RegisterExpert(spec, spec.name).ok()) _exit(3);
    // Every third is removed again: a lost removal would be a loss too.
    std::string line = "+" + spec.name + "\n";
    if (write(out, line.data(), line.size()) < 0) _exit(4);
    if (i % 3 == 2) {
      line = "?" + spec.name + "\n";  // From here on either is right.
      if (write(out, line.data(), line.size()) < 0) _exit(4);
      if (!(*registry)->RemoveExpert(spec.name, 0, "").ok()) _exit(5);
      line[0] = '-';
      if (write(out, line.data(), line.size()) < 0) _exit(4);
    }
  }
}

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
    int pipe_ends[2];
    ASSERT_EQ(pipe(pipe_ends), 0);
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      close(pipe_ends[0]);
      RegisterForEver(path, pipe_ends[1], round);
    }
    close(pipe_ends[1]);
    std::string said;
    char buffer[4096];
    // Three times of four the moment is after the first acknowledgement,
    // however slow the machine; else it may be while the registry opens.
    if (round % 4 != 0) {
      const ssize_t n = read(pipe_ends[0], buffer, sizeof buffer);
      ASSERT_GT(n, 0) << "the child left by itself";
      said.append(buffer, static_cast<size_t>(n));
    }
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 60'000));
    ASSERT_EQ(kill(child, SIGKILL), 0);
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status)) << "the child left by itself: " << status;
    for (ssize_t n; (n = read(pipe_ends[0], buffer, sizeof buffer)) > 0;) {
      said.append(buffer, static_cast<size_t>(n));
    }
    close(pipe_ends[0]);
    std::istringstream lines(said);
    for (std::string line; std::getline(lines, line);) {
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
  }
  EXPECT_GE(acknowledged, kills / 2)
      << "killed before there was anything to lose";
  RecordProperty("acknowledged", acknowledged);
  printf("%d kills, %d acknowledged changes, none lost\n", kills, acknowledged);
}

}  // namespace
}  // namespace conclave::registry
