#include "router_service/gateway/generation.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <utility>

#include "router_service/gateway/openai_error.h"

namespace conclave::gateway {

bool ActiveCount::TryEnter(int limit) {
  std::lock_guard lock(mutex_);
  if (closed_ || value_ >= limit) return false;
  ++value_;
  return true;
}

void ActiveCount::Close() {
  std::lock_guard lock(mutex_);
  closed_ = true;
}

void ActiveCount::Leave() {
  // Notified under the lock: the waiter may destroy what holds us next.
  std::lock_guard lock(mutex_);
  if (--value_ == 0) zero_.notify_all();
}

int ActiveCount::value() const {
  std::lock_guard lock(mutex_);
  return value_;
}

void ActiveCount::WaitForZero() {
  std::unique_lock lock(mutex_);
  zero_.wait(lock, [this] { return value_ == 0; });
}

HttpResponse ErrorResponse(const ApiError& error,
                           const std::string& request_id) {
  HttpResponse response;
  response.status = error.http_status;
  response.headers.emplace_back("x-request-id", request_id);
  if (error.retry_after_s > 0) {
    response.headers.emplace_back("retry-after",
                                  std::to_string(error.retry_after_s));
  }
  if (error.http_status == 401) {
    response.headers.emplace_back("www-authenticate", "Bearer");
  }
  response.body = ErrorBody(error);
  return response;
}

void Generation::Run(const GenerationDeps& deps, GenerationRequest request,
                     std::shared_ptr<ResponseWriter> writer) {
  std::make_shared<Generation>(deps, std::move(request), std::move(writer))
      ->Start();
}

Generation::Generation(const GenerationDeps& deps, GenerationRequest request,
                       std::shared_ptr<ResponseWriter> writer)
    : deps_(deps),
      request_(std::move(request)),
      writer_(std::move(writer)),
      metrics_(*deps.metrics, *deps.clock),
      stream_(FormatFor(request_, absl::ToUnixSeconds(deps.clock->Now()))),
      body_(FormatFor(request_, absl::ToUnixSeconds(deps.clock->Now()))) {}

Generation::~Generation() { deps_.active->Leave(); }

void Generation::Start() {
  const auto self = shared_from_this();
  writer_->OnGone([weak = weak_from_this()] {
    const auto generation = weak.lock();
    if (generation == nullptr) return;
    generation->gone_ = true;
    if (generation->call_ != nullptr) generation->call_->Cancel();
  });
  // A slow reader holds its own stream back, and no thread: the router's
  // callbacks come on threads that all streams share.
  writer_->OnPressure([weak = weak_from_this()](bool full) {
    const auto generation = weak.lock();
    if (generation == nullptr || generation->call_ == nullptr) return;
    full ? generation->call_->Pause() : generation->call_->Resume();
  });
  call_ = deps_.router->Generate(
      request_.message, deps_.clock->Now() + deps_.timeout,
      {[self](const v1::GenerateEvent& event) { self->OnEvent(event); },
       [self](absl::Status status) { self->OnDone(status); }});
  // The client may have left before there was a call.
  if (gone_) call_->Cancel();
}

HttpResponse Generation::Head() const {
  HttpResponse head;
  head.headers.emplace_back("x-request-id", request_.message.request_id());
  head.headers.emplace_back("x-conclave-expert", who_.expert());
  head.headers.emplace_back("x-conclave-category", who_.decision().category());
  head.headers.emplace_back(
      "x-conclave-confidence",
      fmt::format("{:.4f}", who_.decision().confidence()));
  if (request_.stream) {
    head.content_type = "text/event-stream; charset=utf-8";
    head.headers.emplace_back("cache-control", "no-cache");
    // nginx would otherwise collect the whole stream before passing it on.
    head.headers.emplace_back("x-accel-buffering", "no");
  }
  return head;
}

void Generation::OnEvent(const v1::GenerateEvent& event) {
  metrics_.OnEvent(event);
  if (event.has_started() && !started_) {
    started_ = true;
    who_ = event.started();
    if (request_.stream) {
      deps_.count_http(200);
      writer_->StartStream(Head());
    }
  }
  if (!started_) return;  // Nothing may come before it.
  if (request_.stream) {
    writer_->Write(stream_.OnEvent(event));
  } else {
    body_.OnEvent(event);
  }
}

// What the response still lacks: the body, or a stream's last chunks.
absl::StatusOr<std::string> Generation::Rest(const absl::Status& status) {
  RETURN_IF_ERROR(status);
  if (!started_) {
    return Internal("the answer's stream ended before it began");
  }
  return request_.stream ? stream_.End() : body_.End();
}

void Generation::OnDone(const absl::Status& status) {
  const absl::StatusOr<std::string> rest = Rest(status);
  const absl::Status& result = rest.status();
  const std::string code(CodeName(result.code()));
  // Before the client sees the end: who then asks for metrics finds this.
  metrics_.OnDone(code, gone_);
  if (!gone_ && !result.ok() && ToApiError(result).http_status >= 500) {
    spdlog::warn("request {}: {} {}", request_.message.request_id(), code,
                 Message(result));
  }
  if (request_.stream && started_) {
    writer_->Write(rest.ok() ? *rest : AnswerStream::Error(result));
    if (rest.ok()) {
      writer_->Finish();
    } else {
      writer_->Abort();
    }
  } else if (rest.ok()) {
    HttpResponse response = Head();
    response.body = *rest;
    deps_.count_http(200);
    writer_->Respond(std::move(response));
  } else {
    const ApiError error = ToApiError(deps_.explain_error(result));
    deps_.count_http(error.http_status);
    writer_->Respond(ErrorResponse(error, request_.message.request_id()));
  }
  writer_->Post([self = shared_from_this()] { self->call_.reset(); });
}

}  // namespace conclave::gateway
