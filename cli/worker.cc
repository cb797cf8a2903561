// conclave worker: a second process that runs models, on this data directory's
// weights; experts may be placed on it.
#include <absl/time/clock.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>

#include "base/names.h"
#include "base/rpc/server.h"
#include "cli/commands.h"
#include "cli/connection.h"
#include "cli/settings.h"
#include "cli/signals.h"
#include "cli/worker_options.h"
#include "expert_workers/membership.h"
#include "expert_workers/service.h"
#include "registry/client.h"
#include "router_service/gateway/http_server.h"

namespace conclave::cli {
namespace {

struct Options {
  std::string config;
  std::string data_dir;
  std::string join = kDefaultGrpcAddress;
  std::string name;
  std::string grpc = "127.0.0.1:0";
  std::string advertise;
  bool allow_remote_grpc = false;
  int drain_seconds = 45;
  WorkerOptions worker;
};

absl::StatusOr<int> Work(CLI::App& command, Options& options) {
  RETURN_IF_ERROR(ApplySettings(command, options.config));
  if (options.data_dir.empty()) options.data_dir = DefaultDataDir();
  if (!gateway::IsLoopback(options.grpc) && !options.allow_remote_grpc) {
    return FailedPrecondition(
        "--grpc {} is open to other machines, and gRPC here has neither keys "
        "nor TLS; say --allow-remote-grpc on a network you trust",
        options.grpc);
  }
  ASSIGN_OR_RETURN(const workers::ModelHostOptions host_options,
                   ResolveWorkerOptions(options.worker));
  BlockTerminationSignals();
  // Read-only: the service that owns the directory may be running beside us.
  ASSIGN_OR_RETURN(auto store, weights::WeightStore::Open(
                                   {.path = options.data_dir + "/weights",
                                    .read_only = true}));
  auto host = workers::ModelHost::Create(store.get(), host_options);
  auto service = workers::MakeWorkerService(host.get());
  ASSIGN_OR_RETURN(auto server,
                   rpc::Server::Start(options.grpc, {service.get()}));
  const std::string host_name = options.grpc.substr(0, options.grpc.rfind(':'));
  const std::string address =
      options.advertise.empty()
          ? fmt::format("{}:{}", host_name, server->port())
          : options.advertise;
  if (options.name.empty()) {
    options.name = fmt::format("worker-{}", server->port());
  }
  RETURN_IF_ERROR(CheckName("worker", options.name));

  auto registry = registry::RegistryClient::Create(rpc::Connect(options.join));
  workers::MembershipOptions member;
  member.name = options.name;
  member.address = address;
  member.models = [&store] {
    std::vector<std::string> versions;
    for (const auto& model : store->List()) versions.push_back(model.version);
    return versions;
  };
  member.on_change = [](const absl::Status& status) {
    std::fprintf(stderr, "%s\n",
                 status.ok() ? "joined" : std::string(Message(status)).c_str());
  };
  auto membership = workers::Membership::Create(registry.get(), member);
  const absl::Time deadline = absl::Now() + absl::Seconds(10);
  while (!membership->status().ok()) {
    if (absl::Now() > deadline) {
      return Annotate(membership->status(),
                      fmt::format("cannot join {}; is `conclave serve` running "
                                  "there?",
                                  options.join));
    }
    absl::SleepFor(absl::Milliseconds(10));
  }
  std::printf("ready worker %s grpc %s\n", options.name.c_str(),
              address.c_str());
  std::fflush(stdout);
  WaitForTermination();
  membership.reset();  // Leaves: nothing new is sent here.
  server->Shutdown(absl::Now() + absl::Seconds(options.drain_seconds));
  return 0;
}

}  // namespace

void AddWorkerCommand(CLI::App& app, Action& chosen) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand(
      "worker",
      "A further process that runs models for a service. Reads the weights of "
      "--data-dir, beside a service that owns it");
  command->add_option("--config", options->config, "YAML file of options");
  command->add_option("--join", options->join,
                      "HOST:PORT of the service's gRPC");
  command->add_option("--name", options->name,
                      "This worker's name (default: worker-PORT)");
  command->add_option("--data-dir", options->data_dir,
                      "Where the weights are (default "
                      "~/.local/share/conclave)");
  command->add_option("--grpc", options->grpc, "HOST:PORT to listen on");
  command->add_option("--advertise", options->advertise,
                      "HOST:PORT where the service reaches this worker "
                      "(default: --grpc)");
  command->add_flag("--allow-remote-grpc", options->allow_remote_grpc,
                    "Let --grpc be an address that other machines reach");
  command->add_option("--drain-seconds", options->drain_seconds,
                      "How long running answers may take after SIGTERM");
  AddWorkerOptions(*command, options->worker);
  DescribeSettings(*command);
  command->final_callback([options, command, &chosen] {
    chosen = [options, command] { return Work(*command, *options); };
  });
}

}  // namespace conclave::cli
