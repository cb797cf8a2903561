// What the front costs: the same one-token request straight to the worker
// (gRPC), through the router (gRPC), and through gateway and router (HTTP),
// interleaved against one running service.
//
//   conclave serve &
//   conclave_bench_gateway_overhead --http 127.0.0.1:8080
//       --grpc 127.0.0.1:50051 --model smollm2
#include <absl/time/clock.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <boost/asio/connect.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <cstdio>
#include <functional>
#include <future>
#include <nlohmann/json.hpp>
#include <vector>

#include "base/clock.h"
#include "base/rpc/server.h"
#include "expert_workers/client.h"
#include "router_service/client.h"

namespace conclave {
namespace {

namespace beast = boost::beast;
namespace http = beast::http;
using tcp = boost::asio::ip::tcp;

struct Options {
  std::string http = "127.0.0.1:8080";
  std::string grpc = "127.0.0.1:50051";
  std::string model = "smollm2";
  int rounds = 300;
};

constexpr char kText[] = "Hello";

// Waits for a stream's end.
template <typename Start>
void Finish(Start start) {
  std::promise<absl::Status> done;
  StreamCallbacks callbacks;
  callbacks.on_event = [](const v1::GenerateEvent&) {};
  callbacks.on_done = [&done](absl::Status status) { done.set_value(status); };
  auto call = start(std::move(callbacks));
  const absl::Status status = done.get_future().get();
  if (!status.ok()) {
    std::fprintf(stderr, "%s\n", std::string(Message(status)).c_str());
    std::exit(1);
  }
}

class HttpClient {
 public:
  explicit HttpClient(const std::string& address) : stream_(context_) {
    const size_t colon = address.rfind(':');
    host_ = address;
    tcp::resolver resolver(context_);
    stream_.connect(
        resolver.resolve(address.substr(0, colon), address.substr(colon + 1)));
    stream_.socket().set_option(tcp::no_delay(true));
  }
  void Post(const std::string& path, const std::string& body) {
    http::request<http::string_body> request(http::verb::post, path, 11);
    request.set(http::field::host, host_);
    request.set(http::field::content_type, "application/json");
    request.body() = body;
    request.prepare_payload();
    http::write(stream_, request);
    http::response<http::string_body> response;
    http::read(stream_, buffer_, response);
    if (response.result_int() != 200) {
      std::fprintf(stderr, "%u %s\n", response.result_int(),
                   response.body().c_str());
      std::exit(1);
    }
  }

 private:
  boost::asio::io_context context_;
  beast::tcp_stream stream_;
  beast::flat_buffer buffer_;
  std::string host_;
};

double Percentile(std::vector<double> values, double p) {
  std::sort(values.begin(), values.end());
  return values[static_cast<size_t>(p *
                                    static_cast<double>(values.size() - 1))];
}

int Main(int argc, char** argv) {
  Options options;
  CLI::App app("What gateway and router add to a worker's answer");
  app.add_option("--http", options.http, "HOST:PORT of the gateway");
  app.add_option("--grpc", options.grpc, "HOST:PORT of the services");
  app.add_option("--model", options.model, "A model by name: no routing");
  app.add_option("--rounds", options.rounds, "Requests of each kind");
  CLI11_PARSE(app, argc, argv);

  auto worker = workers::WorkerClient::Create(rpc::Connect(options.grpc));
  auto router = router::RouterClient::Create(rpc::Connect(options.grpc));
  HttpClient gateway(options.http);
  const std::string body = nlohmann::json{
      {"model", options.model},
      {"prompt", kText},
      {"max_tokens", 1},
      {"temperature", 0}}.dump();
  const auto deadline = [] { return absl::Now() + absl::Minutes(1); };

  const std::vector<std::pair<const char*, std::function<void()>>> kinds = {
      {"worker, gRPC",
       [&] {
         Finish([&](StreamCallbacks callbacks) {
           v1::WorkerGenerateRequest request;
           request.set_model(options.model);
           request.set_text(kText);
           request.mutable_sampling()->set_max_tokens(1);
           request.mutable_sampling()->set_temperature(0);
           return worker->Generate(request, deadline(), std::move(callbacks));
         });
       }},
      {"router, gRPC",
       [&] {
         Finish([&](StreamCallbacks callbacks) {
           v1::GenerateRequest request;
           request.set_model(options.model);
           request.set_text(kText);
           request.mutable_sampling()->set_max_tokens(1);
           request.mutable_sampling()->set_temperature(0);
           return router->Generate(request, deadline(), std::move(callbacks));
         });
       }},
      {"gateway, HTTP", [&] { gateway.Post("/v1/completions", body); }}};
  std::vector<std::vector<double>> millis(kinds.size());
  for (int round = -10; round < options.rounds; ++round) {  // 10 to warm up
    for (size_t k = 0; k < kinds.size(); ++k) {
      const int64_t start = Clock::Real().MonotonicNanos();
      kinds[k].second();
      const double ms =
          static_cast<double>(Clock::Real().MonotonicNanos() - start) / 1e6;
      if (round >= 0) millis[k].push_back(ms);
    }
  }
  std::printf("| path | p50 ms | p99 ms | added p50 ms |\n|---|---|---|---|\n");
  const double base = Percentile(millis[0], 0.5);
  for (size_t k = 0; k < kinds.size(); ++k) {
    const double p50 = Percentile(millis[k], 0.5);
    std::printf("| %s | %.3f | %.3f | %.3f |\n", kinds[k].first, p50,
                Percentile(millis[k], 0.99), p50 - base);
  }
  return 0;
}

}  // namespace
}  // namespace conclave

int main(int argc, char** argv) { return conclave::Main(argc, argv); }
