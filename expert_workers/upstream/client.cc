#include "expert_workers/upstream/client.h"

#include <condition_variable>
#include <mutex>
#include <optional>
#include <utility>

#include "expert_workers/upstream/answer_reader.h"
#include "expert_workers/upstream/http_call.h"
#include "expert_workers/upstream/request_body.h"
#include "expert_workers/upstream/sse_parser.h"
#include "expert_workers/upstream/url.h"

namespace conclave::upstream {
namespace {

// A key with a line break would write headers of its own.
absl::Status CheckKey(const std::string& key) {
  for (const char c : key) {
    if (c < '!' || c > '~') {
      return InvalidArgument(
          "the endpoint's API key holds a space or a control character");
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<HttpCallRequest> MakeCall(const UpstreamEndpoint& endpoint,
                                         HttpRequest request,
                                         std::string accept,
                                         absl::Time deadline) {
  HttpCallRequest call;
  ASSIGN_OR_RETURN(call.url, ParseUrl(endpoint.url));
  RETURN_IF_ERROR(CheckKey(endpoint.api_key));
  call.url.path += request.path;
  call.body = std::move(request.body);
  call.api_key = endpoint.api_key;
  call.insecure = endpoint.insecure;
  call.accept = std::move(accept);
  call.deadline = deadline;
  return call;
}

// One streaming answer: bytes -> events of a stream -> events of ours.
struct Answer {
  Answer(const v1::WorkerGenerateRequest& request, std::string endpoint_host,
         size_t max_event_bytes, StreamCallbacks c)
      : host(std::move(endpoint_host)),
        callbacks(std::move(c)),
        reader(request, callbacks.on_event),
        parser(max_event_bytes,
               [this](std::string_view data) { return reader.Take(data); }) {}

  void Done(absl::Status status) {
    if (status.ok()) status = Annotate(Close(), "endpoint " + host);
    callbacks.on_done(std::move(status));
  }
  absl::Status Close() {
    RETURN_IF_ERROR(parser.Finish());
    return reader.Finish();
  }

  const std::string host;
  const StreamCallbacks callbacks;
  AnswerReader reader;
  SseParser parser;
};

class UpstreamStream final : public StreamCall {
 public:
  explicit UpstreamStream(std::unique_ptr<HttpCall> call)
      : call_(std::move(call)) {}
  void Cancel() override { call_->Cancel(); }
  void Pause() override { call_->Pause(); }
  void Resume() override { call_->Resume(); }

 private:
  const std::unique_ptr<HttpCall> call_;
};

class HttpUpstreamClient final : public UpstreamClient {
 public:
  HttpUpstreamClient(UpstreamOptions options,
                     std::unique_ptr<HttpEngine> engine)
      : options_(std::move(options)), engine_(std::move(engine)) {}

  std::unique_ptr<StreamCall> Generate(const v1::WorkerGenerateRequest& request,
                                       const UpstreamEndpoint& endpoint,
                                       absl::Time deadline,
                                       StreamCallbacks callbacks) override {
    absl::StatusOr<HttpCallRequest> call = Prepare(request, endpoint, deadline);
    if (!call.ok()) {
      callbacks.on_done(call.status());
      return std::make_unique<EndedStream>();
    }
    const std::string host = call->url.Authority();
    auto answer = std::make_shared<Answer>(
        request, host, options_.max_line_bytes, std::move(callbacks));
    HttpCallbacks http;
    http.on_body = [answer](std::string_view bytes) {
      return answer->parser.Feed(bytes);
    };
    http.is_complete = [answer] { return answer->reader.done(); };
    http.on_done = [answer](absl::Status status) {
      answer->Done(std::move(status));
    };
    return std::make_unique<UpstreamStream>(
        engine_->Start(*std::move(call), std::move(http)));
  }

  absl::StatusOr<v1::EmbedResponse> Embed(const v1::EmbedRequest& request,
                                          const UpstreamEndpoint& endpoint,
                                          absl::Time deadline) override {
    ASSIGN_OR_RETURN(HttpRequest http,
                     MakeEmbedRequest(request, endpoint.remote_model));
    ASSIGN_OR_RETURN(
        HttpCallRequest call,
        MakeCall(endpoint, std::move(http), "application/json", deadline));
    const std::string host = call.url.Authority();
    ASSIGN_OR_RETURN(const std::string body, Fetch(std::move(call)));
    absl::StatusOr<v1::EmbedResponse> response =
        ReadEmbeddings(body, request.inputs_size());
    if (!response.ok()) {
      return Annotate(response.status(), "endpoint " + host);
    }
    return response;
  }

 private:
  static absl::StatusOr<HttpCallRequest> Prepare(
      const v1::WorkerGenerateRequest& request,
      const UpstreamEndpoint& endpoint, absl::Time deadline) {
    ASSIGN_OR_RETURN(HttpRequest http,
                     MakeGenerateRequest(request, endpoint.remote_model));
    return MakeCall(endpoint, std::move(http), "text/event-stream", deadline);
  }

  // The whole body.
  absl::StatusOr<std::string> Fetch(HttpCallRequest request) {
    std::mutex mutex;
    std::condition_variable cv;
    std::optional<absl::Status> result;
    std::string body;
    HttpCallbacks callbacks;
    callbacks.on_body = [&](std::string_view bytes) {
      body.append(bytes);
      return absl::OkStatus();
    };
    callbacks.is_complete = [] { return false; };
    callbacks.on_done = [&](absl::Status status) {
      std::lock_guard lock(mutex);
      result = std::move(status);
      cv.notify_all();
    };
    const auto call = engine_->Start(std::move(request), std::move(callbacks));
    std::unique_lock lock(mutex);
    cv.wait(lock, [&] { return result.has_value(); });
    lock.unlock();
    RETURN_IF_ERROR(*result);
    return body;
  }

  const UpstreamOptions options_;
  const std::unique_ptr<HttpEngine> engine_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<UpstreamClient>> UpstreamClient::Create(
    UpstreamOptions options) {
  ASSIGN_OR_RETURN(auto engine, HttpEngine::Create(options));
  return std::unique_ptr<UpstreamClient>(std::make_unique<HttpUpstreamClient>(
      std::move(options), std::move(engine)));
}

}  // namespace conclave::upstream
