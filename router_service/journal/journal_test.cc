#include "router_service/journal/journal.h"

#include <gmock/gmock.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <thread>
#include <vector>

#include "router_service/journal/journal_estimates.h"

namespace conclave::router {
namespace {

using ::testing::HasSubstr;

class JournalTest : public ::testing::Test {
 protected:
  JournalTest() {
    std::string name =
        (std::filesystem::temp_directory_path() / "journal_XXXXXX").string();
    path_ = mkdtemp(name.data());
  }
  ~JournalTest() override { std::filesystem::remove_all(path_); }

  std::unique_ptr<Journal> Open(JournalOptions options = {}) {
    auto journal = Journal::Open(path_, options, &clock_);
    EXPECT_TRUE(journal.ok()) << journal.status();
    return *std::move(journal);
  }

  static v1::Decision MakeDecision(const std::string& id,
                                   const std::string& expert = "coder",
                                   const std::string& category = "code") {
    v1::Decision decision;
    decision.set_request_id(id);
    decision.set_expert(expert);
    decision.set_category(category);
    return decision;
  }

  std::string path_;
  FakeClock clock_;
};

TEST_F(JournalTest, ExplainsWhatWasJustRecorded) {
  auto journal = Open();
  journal->RecordDecision(MakeDecision("r1"));
  auto explained = journal->Explain("r1");
  ASSERT_TRUE(explained.ok()) << explained.status();
  EXPECT_EQ(explained->decision().expert(), "coder");
  EXPECT_FALSE(explained->has_outcome());

  v1::Outcome outcome;
  outcome.set_expert("chat");
  outcome.set_status("OK");
  journal->RecordOutcome("r1", outcome);
  ASSERT_TRUE(journal->AddFeedback("r1", 0.25, "meh").ok());
  explained = journal->Explain("r1");
  ASSERT_TRUE(explained.ok());
  EXPECT_EQ(explained->outcome().expert(), "chat");
  ASSERT_EQ(explained->feedback_size(), 1);
  EXPECT_EQ(explained->feedback(0).score(), 0.25);
  EXPECT_EQ(explained->feedback(0).unix_ms(), absl::ToUnixMillis(clock_.Now()));
  // The one who answered is judged.
  EXPECT_EQ(journal->Feedback("code", "chat", 0), (FeedbackSummary{1, 0.25}));
  EXPECT_EQ(journal->Feedback("code", "coder", 0), FeedbackSummary{});
}

TEST_F(JournalTest, RefusesFeedbackThatMeansNothing) {
  auto journal = Open();
  journal->RecordDecision(MakeDecision("r1"));
  EXPECT_EQ(journal->AddFeedback("r2", 1, "").code(),
            absl::StatusCode::kNotFound);
  for (const double score : {-0.1, 1.1, std::nan("")}) {
    EXPECT_EQ(journal->AddFeedback("r1", score, "").code(),
              absl::StatusCode::kInvalidArgument);
  }
  EXPECT_EQ(journal->AddFeedback("r1", 1, std::string(4097, 'x')).code(),
            absl::StatusCode::kInvalidArgument);
  for (int i = 0; i < kMaxFeedbackPerRequest; ++i) {
    ASSERT_TRUE(journal->AddFeedback("r1", 1, "").ok());
  }
  EXPECT_EQ(journal->AddFeedback("r1", 1, "").code(),
            absl::StatusCode::kResourceExhausted);
}

TEST_F(JournalTest, TheLastScoreOfARequestCounts) {
  {
    auto journal = Open();
    journal->RecordDecision(MakeDecision("r1"));
    journal->RecordDecision(MakeDecision("r2"));
    ASSERT_TRUE(journal->AddFeedback("r1", 0.5, "").ok());
    ASSERT_TRUE(journal->AddFeedback("r1", 1, "").ok());
    ASSERT_TRUE(journal->AddFeedback("r2", 0.25, "").ok());
    EXPECT_EQ(journal->Feedback("code", "coder", 0),
              (FeedbackSummary{2, 1.25}));
  }
  EXPECT_EQ(Open()->Feedback("code", "coder", 0), (FeedbackSummary{2, 1.25}));
}

TEST_F(JournalTest, EachVersionOfAnExpertIsJudgedByItself) {
  auto journal = Open();
  for (const char* version : {"3", "4", "4"}) {
    v1::Decision decision = MakeDecision(fmt::format("r{}", version));
    (*decision.mutable_versions())[ExpertVersionKey("coder")] = version;
    journal->RecordDecision(decision);
    ASSERT_TRUE(journal->AddFeedback(decision.request_id(), 0.5, "").ok());
  }
  const JournalEstimates estimates(journal.get());
  EXPECT_EQ(estimates.Get("code", "coder", 3).count, 1);
  EXPECT_EQ(estimates.Get("code", "coder", 4).score_sum, 1);
  EXPECT_EQ(estimates.Get("code", "coder", 5).count, 0);
  EXPECT_EQ(estimates.Get("law", "coder", 4).count, 0);
}

TEST_F(JournalTest, ForgetsTheOldestAndKeepsWhatWasLearnt) {
  JournalOptions options;
  options.max_records = 10;
  auto journal = Open(options);
  journal->RecordDecision(MakeDecision("first"));
  ASSERT_TRUE(journal->AddFeedback("first", 1, "").ok());
  for (int i = 0; i < 100; ++i) {
    journal->RecordDecision(MakeDecision("r" + std::to_string(i)));
  }
  ASSERT_TRUE(journal->Explain("r99").ok());
  ASSERT_TRUE(journal->Explain("r99").ok());  // the trim follows its batch
  EXPECT_EQ(journal->Stats().records, 10u);
  EXPECT_EQ(journal->Explain("first").status().code(),
            absl::StatusCode::kNotFound);
  EXPECT_EQ(journal->Explain("r89").status().code(),
            absl::StatusCode::kNotFound);
  EXPECT_TRUE(journal->Explain("r90").ok());
  EXPECT_EQ(journal->Feedback("code", "coder", 0), (FeedbackSummary{1, 1}));
}

TEST_F(JournalTest, AReusedIdIsNotForgottenWithItsFirstUse) {
  JournalOptions options;
  options.max_records = 2;
  auto journal = Open(options);
  journal->RecordDecision(MakeDecision("same", "old"));
  ASSERT_TRUE(journal->AddFeedback("same", 1, "").ok());
  journal->RecordDecision(MakeDecision("other"));
  journal->RecordDecision(MakeDecision("same", "new"));
  ASSERT_TRUE(journal->Explain("same").ok());
  const auto explained = journal->Explain("same");
  ASSERT_TRUE(explained.ok());
  EXPECT_EQ(explained->decision().expert(), "new");
  EXPECT_EQ(explained->feedback_size(), 0);
}

TEST_F(JournalTest, DropsAndCountsWhenNothingMayBeWritten) {
  JournalOptions options;
  options.min_free_bytes = ~uint64_t{0};
  auto journal = Open(options);
  journal->RecordDecision(MakeDecision("r1"));
  EXPECT_EQ(journal->Explain("r1").status().code(),
            absl::StatusCode::kNotFound);
  EXPECT_EQ(journal->Stats().dropped, 1u);
  const absl::Status refused = journal->AddFeedback("r1", 1, "");
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(Message(refused)), HasSubstr("free some space"));
}

TEST_F(JournalTest, AFullQueueDropsAndCounts) {
  JournalOptions options;
  options.queue_capacity = 0;
  auto journal = Open(options);
  journal->RecordDecision(MakeDecision("r1"));
  EXPECT_EQ(journal->Stats().dropped, 1u);
  EXPECT_EQ(journal->Explain("r1").status().code(),
            absl::StatusCode::kNotFound);
}

TEST_F(JournalTest, ASecondProcessIsToldSo) {
  auto journal = Open();
  const auto second = Journal::Open(path_, {}, &clock_);
  EXPECT_EQ(second.status().code(), absl::StatusCode::kUnavailable);
}

TEST_F(JournalTest, ManyThreadsLoseNothing) {
  auto journal = Open();
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 50; ++i) {
        const std::string id = fmt::format("{}-{}", t, i);
        journal->RecordDecision(MakeDecision(id));
        EXPECT_TRUE(journal->AddFeedback(id, 0.5, "").ok());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(journal->Feedback("code", "coder", 0), (FeedbackSummary{200, 100}));
}

// A child acknowledges scores through a pipe until it is killed; every
// acknowledged one must be there afterwards, and the sums must agree.
TEST_F(JournalTest, AcknowledgedFeedbackSurvivesKill) {
#ifdef __SANITIZE_THREAD__
  GTEST_SKIP() << "ThreadSanitizer does not follow a fork into threads";
#endif
  int acknowledged = 0;
  for (int round = 0; round < 5; ++round) {
    int pipe_ends[2];
    ASSERT_EQ(pipe(pipe_ends), 0);
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      close(pipe_ends[0]);
      auto journal = Journal::Open(path_, {}, &Clock::Real());
      if (!journal.ok()) _exit(1);
      for (int i = 0;; ++i) {
        const std::string id = fmt::format("k{}-{}", round, i);
        (*journal)->RecordDecision(MakeDecision(id));
        if (!(*journal)->AddFeedback(id, 1, "").ok()) _exit(1);
        if (write(pipe_ends[1], "x", 1) != 1) _exit(1);
      }
    }
    close(pipe_ends[1]);
    int count = 0;
    char byte;
    while (count < 20 * (round + 1) && read(pipe_ends[0], &byte, 1) == 1) {
      ++count;
    }
    kill(child, SIGKILL);
    while (read(pipe_ends[0], &byte, 1) == 1) ++count;
    close(pipe_ends[0]);
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status));
    ASSERT_GE(count, 20 * (round + 1));
    acknowledged += count;

    auto journal = Open();
    for (int i = 0; i < count; ++i) {
      const auto explained = journal->Explain(fmt::format("k{}-{}", round, i));
      ASSERT_TRUE(explained.ok()) << explained.status();
      EXPECT_EQ(explained->feedback_size(), 1);
    }
    const FeedbackSummary summary = journal->Feedback("code", "coder", 0);
    EXPECT_GE(summary.count, acknowledged);
    EXPECT_EQ(static_cast<double>(summary.count), summary.sum);
  }
}

}  // namespace
}  // namespace conclave::router
