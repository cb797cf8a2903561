#include "router_service/gateway/gateway.h"

#include <absl/strings/escaping.h>
#include <openssl/rand.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <utility>

#include "base/check.h"
#include "base/names.h"
#include "router_service/gateway/blocking_pool.h"
#include "router_service/gateway/decision_json.h"
#include "router_service/gateway/generation.h"
#include "router_service/gateway/model_list.h"
#include "router_service/gateway/openai_error.h"
#include "router_service/gateway/openai_request.h"
#include "router_service/gateway/openai_response.h"

namespace conclave::gateway {
namespace {

// Bodies beyond this are parsed off the server's threads: a long prompt takes
// tens of milliseconds, which every stream on that thread would wait for.
constexpr size_t kParseInline = 64 << 10;

using WriterPtr = std::shared_ptr<ResponseWriter>;

std::string MakeRequestId() {
  unsigned char bytes[16];
  // Two requests of one id would share a journal record.
  CHECK(RAND_bytes(bytes, sizeof(bytes)) == 1, "no randomness");
  const std::string raw(reinterpret_cast<const char*>(bytes), sizeof(bytes));
  const auto hex = absl::BytesToHexString(raw);
  return "req-" + std::string(hex.data(), hex.size());
}

// "%2e" -> "."; nothing for a bad escape or a control character.
std::optional<std::string> Unescape(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    char c = text[i];
    if (c == '%') {
      const auto digit = [&](size_t at) -> int {
        if (at >= text.size()) return -1;
        const char d = text[at];
        if (d >= '0' && d <= '9') return d - '0';
        if (d >= 'a' && d <= 'f') return d - 'a' + 10;
        if (d >= 'A' && d <= 'F') return d - 'A' + 10;
        return -1;
      };
      const int high = digit(i + 1);
      const int low = digit(i + 2);
      if (high < 0 || low < 0) return std::nullopt;
      c = static_cast<char>(high * 16 + low);
      i += 2;
    }
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) return std::nullopt;
    out += c;
  }
  return out;
}

bool IsJson(std::string_view content_type) {
  constexpr std::string_view kJson = "application/json";
  const std::string_view kind = content_type.substr(0, content_type.find(';'));
  const size_t end = kind.find_last_not_of(" \t");
  const std::string_view bare =
      end == std::string_view::npos ? "" : kind.substr(0, end + 1);
  return bare.size() == kJson.size() &&
         std::equal(bare.begin(), bare.end(), kJson.begin(),
                    [](char a, char b) { return (a | 0x20) == (b | 0x20); });
}

// Does the host header name this machine as itself?
bool IsLoopbackHost(const std::string& host) {
  if (host.empty()) return true;  // HTTP/1.0: no browser speaks it.
  const size_t bracket = host.find(']');
  const bool has_port = bracket == std::string::npos
                            ? host.find(':') != std::string::npos
                            : host.find(':', bracket) != std::string::npos;
  return IsLoopback(has_port ? host : host + ":80");
}

class GatewayImpl final : public Gateway, public HttpHandler {
 public:
  GatewayImpl(GatewayOptions options, GatewayDeps deps)
      : options_(std::move(options)),
        deps_(std::move(deps)),
        metrics_(deps_.gauges),
        active_(std::make_shared<ActiveCount>()),
        pool_(std::make_unique<BlockingPool>(options_.blocking_threads,
                                             options_.blocking_queue)) {}

  ~GatewayImpl() override {
    if (http_ == nullptr) return;
    Drain(absl::InfinitePast());
    // A request may still be on its way through the pool. Nothing may hold a
    // ResponseWriter when the server goes.
    active_->Close();
    pool_.reset();
    active_->WaitForZero();
    http_.reset();
  }

  absl::Status Start() {
    if (!options_.keys.has_value() && !IsLoopback(options_.http.address)) {
      return FailedPrecondition(
          "{} can be reached from other machines, so API keys are needed: "
          "give --api-key-file FILE, or listen on 127.0.0.1",
          options_.http.address);
    }
    ASSIGN_OR_RETURN(http_, HttpServer::Start(options_.http, *this));
    server_ = http_.get();
    return absl::OkStatus();
  }

  int port() const override { return http_->port(); }
  std::string address() const override { return http_->address(); }
  int active() const override { return active_->value(); }
  int connections() const override { return http_->connections(); }

  bool Drain(absl::Time deadline) override {
    draining_ = true;
    const bool clean = http_->Drain(deadline);
    // Cut off or not, each call still tells that it is done.
    active_->WaitForZero();
    return clean;
  }

  std::optional<HttpResponse> CheckHead(HttpRequest& request) override;
  void Handle(HttpRequest request, WriterPtr writer) override;
  HttpResponse Error(int status, std::string_view code,
                     std::string_view message) override {
    metrics_.CountHttp("none", status);
    return ErrorResponse(HttpError(status, code, message), MakeRequestId());
  }

 private:
  struct Route {
    const char* method;
    const char* path;  // ends in '/': an id follows
    bool open;         // no key needed
    Scope scope;
    void (GatewayImpl::*handle)(HttpRequest&, WriterPtr&);
  };
  static const std::array<Route, 11> kRoutes;

  std::optional<HttpResponse> CheckAccess(const Route& route,
                                          HttpRequest& request);
  HttpResponse Refuse(const HttpRequest& request, const ApiError& error);
  void Answer(const HttpRequest& request, const WriterPtr& writer,
              HttpResponse response);
  void AnswerJson(const HttpRequest& request, const WriterPtr& writer,
                  const absl::StatusOr<std::string>& body,
                  std::string_view not_found = "model_not_found");
  // Runs `work` on the pool and answers with what it returns.
  void Blocking(HttpRequest& request, WriterPtr& writer,
                std::function<absl::StatusOr<std::string>(HttpRequest&)> work,
                std::string_view not_found = "model_not_found");
  absl::Time CallDeadline() const {
    return deps_.clock->Now() + options_.call_timeout;
  }
  absl::Status NameNearest(const absl::Status& status,
                           const std::string& model) const;

  void Livez(HttpRequest& request, WriterPtr& writer);
  void Readyz(HttpRequest& request, WriterPtr& writer);
  void ShowMetrics(HttpRequest& request, WriterPtr& writer);
  void Models(HttpRequest& request, WriterPtr& writer);
  void Model(HttpRequest& request, WriterPtr& writer);
  void Chat(HttpRequest& request, WriterPtr& writer);
  void Completion(HttpRequest& request, WriterPtr& writer);
  void Embeddings(HttpRequest& request, WriterPtr& writer);
  void RouteOnly(HttpRequest& request, WriterPtr& writer);
  void Decision(HttpRequest& request, WriterPtr& writer);
  void Feedback(HttpRequest& request, WriterPtr& writer);

  using Parser = absl::StatusOr<GenerationRequest> (*)(std::string_view);
  void Generate(HttpRequest& request, WriterPtr& writer, Parser parse);
  void StartGeneration(const HttpRequest& request, const WriterPtr& writer,
                       absl::StatusOr<GenerationRequest> parsed);

  const GatewayOptions options_;
  const GatewayDeps deps_;
  Metrics metrics_;
  const std::shared_ptr<ActiveCount> active_;
  std::atomic<bool> draining_{false};
  std::atomic<HttpServer*> server_{nullptr};
  std::unique_ptr<HttpServer> http_;
  std::unique_ptr<BlockingPool> pool_;
};

const std::array<GatewayImpl::Route, 11> GatewayImpl::kRoutes = {{
    {"GET", "/livez", true, Scope::kInference, &GatewayImpl::Livez},
    {"GET", "/readyz", true, Scope::kInference, &GatewayImpl::Readyz},
    {"GET", "/metrics", false, Scope::kMetrics, &GatewayImpl::ShowMetrics},
    {"GET", "/v1/models", false, Scope::kInference, &GatewayImpl::Models},
    {"GET", "/v1/models/", false, Scope::kInference, &GatewayImpl::Model},
    {"POST", "/v1/chat/completions", false, Scope::kInference,
     &GatewayImpl::Chat},
    {"POST", "/v1/completions", false, Scope::kInference,
     &GatewayImpl::Completion},
    {"POST", "/v1/embeddings", false, Scope::kInference,
     &GatewayImpl::Embeddings},
    {"POST", "/v1/route", false, Scope::kInference, &GatewayImpl::RouteOnly},
    {"GET", "/v1/decisions/", false, Scope::kFeedback, &GatewayImpl::Decision},
    {"POST", "/v1/feedback", false, Scope::kFeedback, &GatewayImpl::Feedback},
}};

// --- Before the body -------------------------------------------------------

HttpResponse GatewayImpl::Refuse(const HttpRequest& request,
                                 const ApiError& error) {
  metrics_.CountHttp(request.route < 0 ? "none" : kRoutes[request.route].path,
                     error.http_status);
  return ErrorResponse(error, request.request_id);
}

std::optional<HttpResponse> GatewayImpl::CheckHead(HttpRequest& request) {
  if (!IsRequestId(request.request_id)) request.request_id = MakeRequestId();
  bool known_path = false;
  const char* allowed = "";
  for (size_t i = 0; i < kRoutes.size(); ++i) {
    const std::string_view path = kRoutes[i].path;
    const bool with_id = path.ends_with('/');
    if (with_id ? !(request.path.starts_with(path) &&
                    request.path.size() > path.size())
                : request.path != path) {
      continue;
    }
    known_path = true;
    allowed = kRoutes[i].method;
    const bool head = request.method == "HEAD" && allowed[0] == 'G';
    if (request.method != allowed && !head) continue;
    request.route = static_cast<int>(i);
    return CheckAccess(kRoutes[i], request);
  }
  if (!known_path) {
    return Refuse(request,
                  HttpError(404, "unknown_route", "there is no such route"));
  }
  HttpResponse response =
      Refuse(request, HttpError(405, "method_not_allowed",
                                fmt::format("use {} for this route", allowed)));
  response.headers.emplace_back("allow", allowed);
  return response;
}

std::optional<HttpResponse> GatewayImpl::CheckAccess(const Route& route,
                                                     HttpRequest& request) {
  if (!route.open && options_.keys.has_value()) {
    const auto name = options_.keys->Check(request.authorization, route.scope);
    if (!name.ok()) return Refuse(request, ToApiError(name.status()));
    request.tenant = *name;
  } else if (!route.open && !IsLoopbackHost(request.host)) {
    return Refuse(request,
                  HttpError(403, "host_not_allowed",
                            "without API keys only requests to a loopback "
                            "host are served"));
  }
  if (request.method == "POST" && !IsJson(request.content_type)) {
    return Refuse(request, HttpError(415, "content_type_not_json",
                                     "send the header \"content-type: "
                                     "application/json\""));
  }
  return std::nullopt;
}

void GatewayImpl::Handle(HttpRequest request, WriterPtr writer) {
  const Route& route = kRoutes[static_cast<size_t>(request.route)];
  (this->*route.handle)(request, writer);
}

// --- Answering -------------------------------------------------------------

void GatewayImpl::Answer(const HttpRequest& request, const WriterPtr& writer,
                         HttpResponse response) {
  metrics_.CountHttp(kRoutes[static_cast<size_t>(request.route)].path,
                     response.status);
  writer->Respond(std::move(response));
}

void GatewayImpl::AnswerJson(const HttpRequest& request,
                             const WriterPtr& writer,
                             const absl::StatusOr<std::string>& body,
                             std::string_view not_found) {
  if (!body.ok()) {
    return Answer(request, writer,
                  ErrorResponse(ToApiError(body.status(), not_found),
                                request.request_id));
  }
  HttpResponse response;
  response.headers.emplace_back("x-request-id", request.request_id);
  response.body = *body;
  Answer(request, writer, std::move(response));
}

void GatewayImpl::Blocking(
    HttpRequest& request, WriterPtr& writer,
    std::function<absl::StatusOr<std::string>(HttpRequest&)> work,
    std::string_view not_found) {
  auto shared = std::make_shared<HttpRequest>(std::move(request));
  const bool queued =
      pool_->TryRun([this, shared, writer, not_found, work = std::move(work)] {
        AnswerJson(*shared, writer, work(*shared), not_found);
      });
  if (!queued) {
    AnswerJson(*shared, writer, Unavailable("too many requests wait"));
  }
}

// The router lists near names itself when it knows them; this is for when it
// did not.
absl::Status GatewayImpl::NameNearest(const absl::Status& status,
                                      const std::string& model) const {
  if (status.code() != absl::StatusCode::kNotFound ||
      Message(status).find("Did you mean") != std::string_view::npos) {
    return status;
  }
  const auto snapshot = deps_.registry->snapshot();
  return NotFound("{}{}", Message(status),
                  DidYouMean(model, ModelNames(*snapshot)));
}

// --- The routes ------------------------------------------------------------

void GatewayImpl::Livez(HttpRequest& request, WriterPtr& writer) {
  AnswerJson(request, writer, std::string("{\"live\":true}"));
}

void GatewayImpl::Readyz(HttpRequest& request, WriterPtr& writer) {
  std::vector<std::string> reasons;
  if (deps_.not_ready) reasons = deps_.not_ready();
  if (draining_) reasons.push_back("shutting down");
  nlohmann::ordered_json body;
  body["ready"] = reasons.empty();
  body["reasons"] = nlohmann::ordered_json::array();
  for (const std::string& reason : reasons) {
    body["reasons"].push_back(Scrub(reason));  // This route is open to all.
  }
  HttpResponse response;
  response.status = reasons.empty() ? 200 : 503;
  response.headers.emplace_back("x-request-id", request.request_id);
  response.body = Dump(body);
  Answer(request, writer, std::move(response));
}

void GatewayImpl::ShowMetrics(HttpRequest& request, WriterPtr& writer) {
  if (HttpServer* server = server_.load()) {
    metrics_.SetConnections(server->connections());
  }
  HttpResponse response;
  response.content_type = "text/plain; version=0.0.4; charset=utf-8";
  response.headers.emplace_back("x-request-id", request.request_id);
  response.body = metrics_.Text();
  Answer(request, writer, std::move(response));
}

void GatewayImpl::Models(HttpRequest& request, WriterPtr& writer) {
  AnswerJson(request, writer, Dump(ModelList(*deps_.registry->snapshot())));
}

void GatewayImpl::Model(HttpRequest& request, WriterPtr& writer) {
  const auto id = Unescape(
      std::string_view(request.path).substr(std::size("/v1/models/") - 1));
  if (!id.has_value()) {
    return AnswerJson(request, writer,
                      InvalidArgument("the model's name is not valid"));
  }
  const auto entry = ModelEntry(*deps_.registry->snapshot(), *id);
  if (!entry.ok()) return AnswerJson(request, writer, entry.status());
  AnswerJson(request, writer, Dump(*entry));
}

void GatewayImpl::Chat(HttpRequest& request, WriterPtr& writer) {
  Generate(request, writer, &ParseChatCompletion);
}

void GatewayImpl::Completion(HttpRequest& request, WriterPtr& writer) {
  Generate(request, writer, &ParseCompletion);
}

void GatewayImpl::Generate(HttpRequest& request, WriterPtr& writer,
                           Parser parse) {
  if (request.body.size() <= kParseInline) {
    return StartGeneration(request, writer, parse(request.body));
  }
  auto shared = std::make_shared<HttpRequest>(std::move(request));
  const bool queued = pool_->TryRun([this, shared, writer, parse] {
    auto parsed = std::make_shared<absl::StatusOr<GenerationRequest>>(
        parse(shared->body));
    shared->body = std::string();
    writer->Post([this, shared, writer, parsed] {
      StartGeneration(*shared, writer, std::move(*parsed));
    });
  });
  if (!queued) {
    AnswerJson(*shared, writer, Unavailable("too many requests wait"));
  }
}

void GatewayImpl::StartGeneration(const HttpRequest& request,
                                  const WriterPtr& writer,
                                  absl::StatusOr<GenerationRequest> parsed) {
  if (!parsed.ok()) return AnswerJson(request, writer, parsed.status());
  if (!active_->TryEnter(options_.max_generations)) {
    return AnswerJson(
        request, writer,
        ResourceExhausted("{} requests run already, which is the limit",
                          options_.max_generations));
  }
  parsed->message.set_request_id(request.request_id);
  parsed->message.set_tenant(request.tenant);
  GenerationDeps deps;
  deps.router = deps_.router;
  deps.metrics = &metrics_;
  deps.clock = deps_.clock;
  deps.active = active_;
  deps.timeout = options_.generation_timeout;
  deps.explain_error =
      [this, model = parsed->message.model()](const absl::Status& status) {
        return NameNearest(status, model);
      };
  deps.count_http = [this, route = request.route](int status) {
    metrics_.CountHttp(kRoutes[static_cast<size_t>(route)].path, status);
  };
  Generation::Run(deps, *std::move(parsed), writer);
}

void GatewayImpl::Embeddings(HttpRequest& request, WriterPtr& writer) {
  Blocking(request, writer,
           [this](HttpRequest& in) -> absl::StatusOr<std::string> {
             ASSIGN_OR_RETURN(const EmbeddingsRequest parsed,
                              ParseEmbeddings(in.body));
             const auto response =
                 deps_.router->Embed(parsed.message, CallDeadline());
             if (!response.ok()) {
               return NameNearest(response.status(), parsed.message.model());
             }
             return EmbeddingsBody(*response, parsed.base64);
           });
}

void GatewayImpl::RouteOnly(HttpRequest& request, WriterPtr& writer) {
  Blocking(request, writer,
           [this](HttpRequest& in) -> absl::StatusOr<std::string> {
             ASSIGN_OR_RETURN(v1::RouteRequest parsed, ParseRoute(in.body));
             parsed.set_request_id(in.request_id);
             parsed.set_tenant(in.tenant);
             const auto decision = deps_.router->Route(parsed, CallDeadline());
             if (!decision.ok()) {
               return NameNearest(decision.status(), parsed.model());
             }
             metrics_.CountDecision(*decision);
             return Dump(DecisionJson(*decision));
           });
}

void GatewayImpl::Decision(HttpRequest& request, WriterPtr& writer) {
  Blocking(
      request, writer,
      [this](HttpRequest& in) -> absl::StatusOr<std::string> {
        const std::string id = in.path.substr(std::size("/v1/decisions/") - 1);
        if (!IsRequestId(id)) {
          return InvalidArgument("the request id is not valid");
        }
        v1::ExplainRequest explain;
        explain.set_request_id(id);
        explain.set_tenant(in.tenant);
        ASSIGN_OR_RETURN(const v1::ExplainResponse response,
                         deps_.router->Explain(explain, CallDeadline()));
        return Dump(ExplainJson(response));
      },
      "decision_not_found");
}

void GatewayImpl::Feedback(HttpRequest& request, WriterPtr& writer) {
  Blocking(
      request, writer,
      [this](HttpRequest& in) -> absl::StatusOr<std::string> {
        ASSIGN_OR_RETURN(v1::FeedbackRequest parsed, ParseFeedback(in.body));
        parsed.set_tenant(in.tenant);
        RETURN_IF_ERROR(
            deps_.router->Feedback(parsed, CallDeadline()).status());
        nlohmann::ordered_json body;
        body["request_id"] = parsed.request_id();
        body["status"] = "recorded";
        return Dump(body);
      },
      "decision_not_found");
}

}  // namespace

absl::StatusOr<std::unique_ptr<Gateway>> Gateway::Start(GatewayOptions options,
                                                        GatewayDeps deps) {
  auto gateway =
      std::make_unique<GatewayImpl>(std::move(options), std::move(deps));
  RETURN_IF_ERROR(gateway->Start());
  return std::unique_ptr<Gateway>(std::move(gateway));
}

}  // namespace conclave::gateway
