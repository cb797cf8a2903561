// What the gRPC clients of this repository have in common: a call with one
// answer, and a stream that is read as it comes and can be paused.
#ifndef CONCLAVE_BASE_RPC_CLIENT_CALL_H_
#define CONCLAVE_BASE_RPC_CLIENT_CALL_H_

#include <absl/time/time.h>
#include <grpcpp/client_context.h>
#include <grpcpp/support/client_callback.h>

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>

#include "base/rpc/status.h"
#include "base/status.h"
#include "base/stream_call.h"

namespace conclave::rpc {

inline void SetDeadline(grpc::ClientContext& context, absl::Time deadline) {
  if (deadline == absl::InfiniteFuture()) return;
  context.set_deadline(absl::ToChronoTime(deadline));
}

// Blocks for the one answer: Call(*stub, &v1::Router::Stub::Route, request,
// deadline).
template <typename Stub, typename Request, typename Response>
absl::StatusOr<Response> Call(Stub& stub,
                              grpc::Status (Stub::*method)(grpc::ClientContext*,
                                                           const Request&,
                                                           Response*),
                              const Request& request, absl::Time deadline) {
  grpc::ClientContext context;
  SetDeadline(context, deadline);
  Response response;
  const grpc::Status status = (stub.*method)(&context, request, &response);
  if (!status.ok()) return FromGrpc(status);
  return response;
}

// The gRPC side of one stream. It holds itself until gRPC is done with it: the
// caller's handle may be gone before. While paused no read is pending, and the
// transport's flow control holds the sender back.
template <typename Request, typename Event>
class ReadStream final : public grpc::ClientReadReactor<Event> {
 public:
  ReadStream(const Request& request, absl::Time deadline,
             EventCallbacks<Event> callbacks)
      : request_(request), callbacks_(std::move(callbacks)) {
    SetDeadline(context_, deadline);
  }

  template <typename Async, typename Method>
  void Start(Async* stub, Method method, std::shared_ptr<ReadStream> self) {
    self_ = std::move(self);
    (stub->*method)(&context_, &request_, this);
    // Resume reads from outside of a reaction: the hold keeps the call until
    // the last read has failed.
    this->AddHold();
    this->StartRead(&event_);
    this->StartCall();
  }

  void Cancel() {
    {
      std::lock_guard lock(mutex_);
      cancelled_ = true;
    }
    context_.TryCancel();
    Resume();  // The end comes with a read.
  }
  void Pause() {
    std::lock_guard lock(mutex_);
    paused_ = !cancelled_;
  }
  void Resume() {
    {
      std::lock_guard lock(mutex_);
      paused_ = false;
      if (!std::exchange(read_is_due_, false)) return;
    }
    this->StartRead(&event_);
  }
  // Returns after on_done; at once inside a callback.
  void Wait() {
    if (callback_thread_ == std::this_thread::get_id()) return;
    std::unique_lock lock(mutex_);
    ended_.wait(lock, [this] { return done_; });
  }

 private:
  void OnReadDone(bool ok) override {
    if (!ok) return this->RemoveHold();
    callback_thread_ = std::this_thread::get_id();
    callbacks_.on_event(event_);
    callback_thread_ = std::thread::id();
    {
      std::lock_guard lock(mutex_);
      read_is_due_ = paused_;
      if (paused_) return;
    }
    this->StartRead(&event_);
  }

  void OnDone(const grpc::Status& status) override {
    const std::shared_ptr<ReadStream> self = std::move(self_);
    callback_thread_ = std::this_thread::get_id();
    callbacks_.on_done(FromGrpc(status));
    // What they hold is let go before anybody is told of the end.
    callbacks_ = {};
    callback_thread_ = std::thread::id();
    std::lock_guard lock(mutex_);
    done_ = true;
    ended_.notify_all();
  }

  const Request request_;
  EventCallbacks<Event> callbacks_;
  grpc::ClientContext context_;
  Event event_;
  std::shared_ptr<ReadStream> self_;
  std::atomic<std::thread::id> callback_thread_{};  // inside a callback
  std::mutex mutex_;
  std::condition_variable ended_;
  bool cancelled_ = false;
  bool paused_ = false;
  bool read_is_due_ = false;  // once resumed
  bool done_ = false;
};

// Starts `method` of stub.async(): StartStream(stub->async(),
// &v1::Router::Stub::async::Generate, request, deadline, callbacks).
// Callbacks come one at a time on a thread of gRPC's, of which a small machine
// has two for the whole process: they must not block.
template <typename Async, typename Request, typename Event>
std::unique_ptr<StreamCall> StartStream(
    Async* stub,
    void (Async::*method)(grpc::ClientContext*, const Request*,
                          grpc::ClientReadReactor<Event>*),
    const Request& request, absl::Time deadline,
    EventCallbacks<Event> callbacks) {
  using Stream = ReadStream<Request, Event>;
  class Handle final : public StreamCall {
   public:
    explicit Handle(std::shared_ptr<Stream> stream)
        : stream_(std::move(stream)) {}
    ~Handle() override {
      stream_->Cancel();
      stream_->Wait();
    }
    void Cancel() override { stream_->Cancel(); }
    void Pause() override { stream_->Pause(); }
    void Resume() override { stream_->Resume(); }

   private:
    const std::shared_ptr<Stream> stream_;
  };
  auto stream =
      std::make_shared<Stream>(request, deadline, std::move(callbacks));
  stream->Start(stub, method, stream);
  return std::make_unique<Handle>(std::move(stream));
}

}  // namespace conclave::rpc

#endif  // CONCLAVE_BASE_RPC_CLIENT_CALL_H_
