// The worker's client over a host that says what it is told: what a stream
// promises to who reads it.
#include "expert_workers/client.h"

#include <absl/time/clock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "base/rpc/server.h"
#include "expert_workers/model_host.h"
#include "expert_workers/service.h"
#include "expert_workers/upstream/testing/test_event.h"

namespace conclave::workers {
namespace {

constexpr int kEvents = 300;

absl::Time Soon() { return absl::Now() + absl::Seconds(20); }

// Sends kEvents deltas for two answers by turns, which the service cannot
// merge, then ends; with `hang` it ends when cancelled.
class TalkingHost final : public ModelHost {
 public:
  explicit TalkingHost(bool hang) : hang_(hang) {}

  std::shared_ptr<HostCall> Generate(const v1::WorkerGenerateRequest&,
                                     absl::Time,
                                     StreamCallbacks callbacks) override {
    return std::make_shared<Call>(hang_, std::move(callbacks));
  }
  std::shared_ptr<HostCall> Embed(
      const v1::EmbedRequest&, absl::Time,
      std::function<void(absl::StatusOr<v1::EmbedResponse>)>) override {
    return nullptr;
  }
  std::shared_ptr<HostCall> Load(
      const v1::LoadRequest&, absl::Time,
      std::function<void(absl::StatusOr<v1::LoadResponse>)>) override {
    return nullptr;
  }
  std::shared_ptr<HostCall> Unload(const v1::UnloadRequest&, absl::Time,
                                   std::function<void(absl::Status)>) override {
    return nullptr;
  }
  v1::WorkerStats Stats() const override { return {}; }

 private:
  class Call final : public HostCall {
   public:
    Call(bool hang, StreamCallbacks callbacks)
        : thread_([this, hang, callbacks = std::move(callbacks)] {
            v1::GenerateEvent event;
            event.mutable_delta()->set_text(std::string(4096, 'x'));
            for (int i = 0; i < kEvents && !cancelled_.HasHappened(); ++i) {
              event.mutable_delta()->set_index(i % 2);
              callbacks.on_event(event);
            }
            if (hang) cancelled_.Wait();
            callbacks.on_done(cancelled_.HasHappened() ? Cancelled("told to")
                                                       : absl::OkStatus());
          }) {}
    ~Call() override {
      Cancel();
      thread_.detach();  // It may be on_done that lets this go.
    }
    void Cancel() override { cancelled_.Notify(); }

   private:
    TestEvent cancelled_;
    std::thread thread_;
  };
  const bool hang_;
};

struct Reader {
  std::atomic<int> events{0};
  absl::Status status;
  TestEvent first;
  TestEvent done;

  StreamCallbacks callbacks() {
    StreamCallbacks out;
    out.on_event = [this](const v1::GenerateEvent&) {
      ++events;
      first.Notify();
    };
    out.on_done = [this](absl::Status end) {
      status = std::move(end);
      done.Notify();
    };
    return out;
  }
};

// True: over TCP, else in-process.
class WorkerClientTest : public testing::TestWithParam<bool> {
 protected:
  void StartWorker(bool hang) {
    host_ = std::make_unique<TalkingHost>(hang);
    service_ = MakeWorkerService(host_.get());
    auto server = rpc::Server::Start("127.0.0.1:0", {service_.get()});
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    client_ = WorkerClient::Create(
        GetParam() ? rpc::Connect(fmt::format("127.0.0.1:{}", server_->port()))
                   : server_->InProcessChannel());
  }
  void TearDown() override {
    client_.reset();
    if (server_ != nullptr) server_->Shutdown(absl::Now() + absl::Seconds(5));
  }
  std::unique_ptr<StreamCall> Start(Reader& reader) {
    return client_->Generate({}, Soon(), reader.callbacks());
  }

  std::unique_ptr<ModelHost> host_;
  std::unique_ptr<grpc::Service> service_;
  std::unique_ptr<rpc::Server> server_;
  std::unique_ptr<WorkerClient> client_;
};

INSTANTIATE_TEST_SUITE_P(Channels, WorkerClientTest, testing::Bool(),
                         [](const auto& param_info) {
                           return param_info.param ? "Tcp" : "InProcess";
                         });

TEST_P(WorkerClientTest, APausedStreamIsNotReadAndLosesNothing) {
  StartWorker(/*hang=*/false);
  Reader reader;
  std::unique_ptr<StreamCall> call;
  TestEvent have_call;
  StreamCallbacks callbacks = reader.callbacks();
  callbacks.on_event = [&](const v1::GenerateEvent&) {
    have_call.Wait();
    if (++reader.events == 3) call->Pause();
    reader.first.Notify();
  };
  call = client_->Generate({}, Soon(), std::move(callbacks));
  have_call.Notify();
  absl::SleepFor(absl::Milliseconds(200));
  EXPECT_EQ(reader.events, 3);
  EXPECT_FALSE(reader.done.HasHappened());
  call->Resume();
  ASSERT_TRUE(reader.done.Wait());
  EXPECT_TRUE(reader.status.ok()) << reader.status;
  EXPECT_EQ(reader.events, kEvents);
}

TEST_P(WorkerClientTest, CancelEndsAPausedStream) {
  StartWorker(/*hang=*/true);
  Reader reader;
  const auto call = Start(reader);
  ASSERT_TRUE(reader.first.Wait());
  call->Pause();
  call->Cancel();
  call->Pause();  // Too late to mean anything.
  ASSERT_TRUE(reader.done.Wait());
  EXPECT_EQ(reader.status.code(), absl::StatusCode::kCancelled);
}

TEST_P(WorkerClientTest, DestroyingAPausedCallWaitsForItsEnd) {
  StartWorker(/*hang=*/true);
  Reader reader;
  auto call = Start(reader);
  ASSERT_TRUE(reader.first.Wait());
  call->Pause();
  call.reset();
  EXPECT_TRUE(reader.done.HasHappened());
}

TEST_P(WorkerClientTest, ACallMayBeDestroyedInItsCallback) {
  StartWorker(/*hang=*/true);
  Reader reader;
  std::unique_ptr<StreamCall> call;
  TestEvent have_call;
  StreamCallbacks callbacks = reader.callbacks();
  callbacks.on_event = [&](const v1::GenerateEvent&) {
    have_call.Wait();
    call.reset();
    ++reader.events;
  };
  call = client_->Generate({}, Soon(), std::move(callbacks));
  have_call.Notify();
  ASSERT_TRUE(reader.done.Wait());
  EXPECT_GE(reader.events, 1);
  EXPECT_EQ(reader.status.code(), absl::StatusCode::kCancelled);
}

// Pauses and resumes from another thread as fast as it can.
TEST_P(WorkerClientTest, PausingAtRandomMomentsLosesNothing) {
  StartWorker(/*hang=*/false);
  for (int round = 0; round < 20; ++round) {
    Reader reader;
    const auto call = Start(reader);
    while (!reader.done.HasHappened()) {
      call->Pause();
      std::this_thread::yield();
      call->Resume();
    }
    EXPECT_TRUE(reader.status.ok()) << reader.status;
    EXPECT_EQ(reader.events, kEvents);
  }
}

}  // namespace
}  // namespace conclave::workers
