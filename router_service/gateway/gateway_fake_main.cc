// conclave_gateway_fake: the gateway over FakeRouterClient, for trying HTTP
// clients without a model. Prints `ready http=HOST:PORT` when it can answer;
// SIGTERM or SIGINT drains it.
#include <absl/time/clock.h>
#include <fmt/core.h>
#include <signal.h>

#include <CLI/CLI.hpp>
#include <cstdio>

#include "router_service/gateway/fake_router_client.h"
#include "router_service/gateway/gateway.h"

namespace conclave {
namespace {

registry::Snapshot FakeSnapshot() {
  registry::Snapshot snapshot;
  snapshot.revision = 1;
  for (const char* name : {"chat", "coder"}) {
    registry::ExpertSpec spec;
    spec.name = name;
    spec.model = name;
    spec.created_unix_ms = 1'700'000'000'000;
    snapshot.experts.emplace(
        name, std::make_shared<const registry::ExpertSpec>(spec));
  }
  return snapshot;
}

int Serve(gateway::GatewayOptions options, router::FakeRouterOptions fake,
          absl::Duration patience) {
  // Blocked before any thread starts, so that only sigwait gets them.
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);

  router::FakeRouterClient router(fake);
  const registry::FixedSnapshot registry(FakeSnapshot());
  gateway::GatewayDeps deps;
  deps.router = &router;
  deps.registry = &registry;
  deps.gauges = [&router] {
    gateway::ModelGauges gauges;
    gauges.model = "chat";
    gauges.running = router.running();
    return gateway::WorkerFigures{.models = {gauges}};
  };
  auto started = gateway::Gateway::Start(std::move(options), deps);
  if (!started.ok()) {
    fmt::print(stderr, "{}\n", Message(started.status()));
    return 1;
  }
  fmt::print("ready http={}\n", (*started)->address());
  std::fflush(stdout);
  int signal = 0;
  sigwait(&signals, &signal);
  const bool clean = (*started)->Drain(absl::Now() + patience);
  fmt::print("drained {}\n", clean ? "cleanly" : "by force");
  return 0;
}

}  // namespace
}  // namespace conclave

int main(int argc, char** argv) {
  CLI::App app("The OpenAI gateway over a scripted router");
  conclave::gateway::GatewayOptions options;
  conclave::router::FakeRouterOptions fake;
  options.http.address = "127.0.0.1:0";
  double delay_ms = 2;
  double patience_s = 10;
  std::string key_file;
  app.add_option("--http", options.http.address, "HOST:PORT");
  app.add_option("--threads", options.http.threads, "HTTP threads");
  app.add_option("--token-delay-ms", delay_ms, "between two tokens");
  app.add_option("--drain-s", patience_s, "patience at SIGTERM");
  app.add_option("--api-key-file", key_file, "hashed keys");
  CLI11_PARSE(app, argc, argv);
  if (!key_file.empty()) {
    auto keys = conclave::gateway::ApiKeys::Load(key_file);
    if (!keys.ok()) {
      fmt::print(stderr, "{}\n", conclave::Message(keys.status()));
      return 1;
    }
    options.keys = *std::move(keys);
  }
  fake.token_delay = absl::Milliseconds(delay_ms);
  return conclave::Serve(std::move(options), fake, absl::Seconds(patience_s));
}
