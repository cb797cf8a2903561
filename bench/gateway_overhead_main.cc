// What the front costs: the same requests straight to the worker (gRPC),
// through the router (gRPC), and through gateway and router (HTTP, SSE),
// interleaved against one running service. Greedy answers of one model by
// name, so that all three do the same work and nothing is routed.
//
//   conclave serve --http 127.0.0.1:8080 --grpc 127.0.0.1:50051 &
//   conclave_bench_gateway_overhead --model smollm2
//
// Added latency is the difference of the percentiles, per request (one token)
// and per token (streams of --tokens).
#include <absl/time/clock.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <boost/asio/buffer.hpp>
#include <boost/asio/connect.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/write.hpp>
#include <cstdio>
#include <functional>
#include <future>
#include <nlohmann/json.hpp>
#include <vector>

#include "base/clock.h"
#include "base/machine.h"
#include "base/rpc/server.h"
#include "expert_workers/client.h"
#include "router_service/client.h"

namespace conclave {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;

struct Options {
  std::string http = "127.0.0.1:8080";
  std::string grpc = "127.0.0.1:50051";
  std::string model = "smollm2";
  int requests = 300;
  int streams = 30;
  int tokens = 64;
};

constexpr char kText[] = "Hello";

[[noreturn]] void Stop(std::string_view why) {
  std::fprintf(stderr, "%.*s\n", static_cast<int>(why.size()), why.data());
  std::exit(1);
}

double NowMs() {
  return static_cast<double>(Clock::Real().MonotonicNanos()) / 1e6;
}

absl::Time Deadline() { return absl::Now() + absl::Minutes(1); }

// When each piece of one answer came; the last entry is its end.
using Arrivals = std::vector<double>;
// One request of so many tokens.
using Ask = std::function<Arrivals(int tokens)>;

// By gRPC, whoever is asked.
template <typename Start>
Arrivals Stream(Start start) {
  Arrivals arrivals;
  std::promise<absl::Status> done;
  StreamCallbacks callbacks;
  callbacks.on_event = [&](const v1::GenerateEvent& event) {
    if (event.has_delta()) arrivals.push_back(NowMs());
  };
  callbacks.on_done = [&](absl::Status status) {
    arrivals.push_back(NowMs());
    done.set_value(std::move(status));
  };
  const auto call = start(std::move(callbacks));
  const absl::Status status = done.get_future().get();
  if (!status.ok()) Stop(Message(status));
  return arrivals;
}

template <typename Request>
Request MakeRequest(const Options& options, int tokens) {
  Request request;
  request.set_model(options.model);
  request.set_text(kText);
  request.mutable_sampling()->set_max_tokens(tokens);
  request.mutable_sampling()->set_ignore_eos(true);
  request.mutable_sampling()->set_temperature(0);
  return request;
}

// A connection that stays open, and reads events as they come.
class HttpClient {
 public:
  explicit HttpClient(const std::string& address)
      : host_(address), socket_(context_) {
    const size_t colon = address.rfind(':');
    tcp::resolver resolver(context_);
    asio::connect(socket_, resolver.resolve(address.substr(0, colon),
                                            address.substr(colon + 1)));
    socket_.set_option(tcp::no_delay(true));
  }

  Arrivals Stream(const std::string& body) {
    asio::write(socket_,
                asio::buffer(fmt::format(
                    "POST /v1/completions HTTP/1.1\r\nhost: {}\r\ncontent-type:"
                    " application/json\r\ncontent-length: {}\r\n\r\n{}",
                    host_, body.size(), body)));
    Arrivals arrivals;
    std::string text;
    size_t seen = 0;  // of `text`, searched for events
    while (!text.ends_with("\r\n0\r\n\r\n")) {
      char bytes[16 << 10];
      const size_t n = socket_.read_some(asio::buffer(bytes));
      text.append(bytes, n);
      const double now = NowMs();
      for (size_t at; (at = text.find("data: {", seen)) != std::string::npos;) {
        arrivals.push_back(now);
        seen = at + 1;
      }
      if (text.size() > 12 && !text.starts_with("HTTP/1.1 200")) Stop(text);
    }
    arrivals.push_back(NowMs());
    return arrivals;
  }

 private:
  const std::string host_;
  asio::io_context context_;
  tcp::socket socket_;
};

double Percentile(std::vector<double> values, double p) {
  std::sort(values.begin(), values.end());
  return values[static_cast<size_t>(p *
                                    static_cast<double>(values.size() - 1))];
}

// One table: a row for each path, the first being what is compared with.
struct Row {
  const char* path;
  std::vector<double> ms;
};
void Print(const char* what, const std::vector<Row>& rows) {
  std::printf(
      "\n| %s | p50 ms | p99 ms | added p50 ms | added p99 ms | ratio p50 | "
      "ratio p99 |\n|---|---|---|---|---|---|---|\n",
      what);
  const double p50 = Percentile(rows[0].ms, 0.5);
  const double p99 = Percentile(rows[0].ms, 0.99);
  for (const Row& row : rows) {
    const double own_p50 = Percentile(row.ms, 0.5);
    const double own_p99 = Percentile(row.ms, 0.99);
    std::printf("| %s | %.3f | %.3f | %.3f | %.3f | %.3f | %.3f |\n", row.path,
                own_p50, own_p99, own_p50 - p50, own_p99 - p99, own_p50 / p50,
                own_p99 / p99);
  }
}

int Main(int argc, char** argv) {
  Options options;
  CLI::App app("What gateway and router add to a worker's answer");
  app.add_option("--http", options.http, "HOST:PORT of the gateway");
  app.add_option("--grpc", options.grpc, "HOST:PORT of the services");
  app.add_option("--model", options.model, "A model by name: no routing");
  app.add_option("--requests", options.requests, "One-token requests per path");
  app.add_option("--streams", options.streams, "Longer streams per path");
  app.add_option("--tokens", options.tokens, "Tokens of a longer stream")
      ->check(CLI::Range(2, 1000));
  CLI11_PARSE(app, argc, argv);

  const auto worker = workers::WorkerClient::Create(rpc::Connect(options.grpc));
  const auto router = router::RouterClient::Create(rpc::Connect(options.grpc));
  HttpClient gateway(options.http);
  const std::vector<std::pair<const char*, Ask>> paths = {
      {"worker, gRPC",
       [&](int tokens) {
         const auto request =
             MakeRequest<v1::WorkerGenerateRequest>(options, tokens);
         return Stream([&](StreamCallbacks callbacks) {
           return worker->Generate(request, Deadline(), std::move(callbacks));
         });
       }},
      {"router, gRPC",
       [&](int tokens) {
         const auto request = MakeRequest<v1::GenerateRequest>(options, tokens);
         return Stream([&](StreamCallbacks callbacks) {
           return router->Generate(request, Deadline(), std::move(callbacks));
         });
       }},
      {"gateway, HTTP", [&](int tokens) {
         return gateway.Stream(nlohmann::json{
             {"model", options.model},
             {"prompt", kText},
             {"max_tokens", tokens},
             {"ignore_eos", true},
             {"stream", true},
             {"temperature", 0}}.dump());
       }}};

  std::vector<Row> requests;
  std::vector<Row> first_tokens;
  std::vector<Row> tokens;
  std::vector<Row> gaps;
  for (const auto& [path, ask] : paths) {
    for (auto* rows : {&requests, &first_tokens, &tokens, &gaps}) {
      rows->push_back({path, {}});
    }
  }
  for (int round = -10; round < options.requests; ++round) {  // 10 to warm up
    for (size_t k = 0; k < paths.size(); ++k) {
      const double start = NowMs();
      const Arrivals arrivals = paths[k].second(1);
      if (round >= 0) requests[k].ms.push_back(arrivals.back() - start);
    }
  }
  for (int round = 0; round < options.streams; ++round) {
    for (size_t k = 0; k < paths.size(); ++k) {
      const double start = NowMs();
      const Arrivals arrivals = paths[k].second(options.tokens);
      first_tokens[k].ms.push_back(arrivals.front() - start);
      // Whole streams: pieces may come together, and their sum does not lie.
      tokens[k].ms.push_back((arrivals.back() - arrivals.front()) /
                             (options.tokens - 1));
      for (size_t i = 1; i + 1 < arrivals.size(); ++i) {
        gaps[k].ms.push_back(arrivals[i] - arrivals[i - 1]);
      }
    }
  }
  std::printf("%s; model %s, %d requests of 1 token, %d streams of %d\n",
              MachineLine().c_str(), options.model.c_str(), options.requests,
              options.streams, options.tokens);
  Print("per request", requests);
  Print("to the first token of a stream", first_tokens);
  Print("per token, mean of a stream", tokens);
  Print("between two tokens", gaps);
  return 0;
}

}  // namespace
}  // namespace conclave

int main(int argc, char** argv) { return conclave::Main(argc, argv); }
