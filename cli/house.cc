#include "cli/house.h"

#include <absl/time/clock.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <future>
#include <mutex>
#include <thread>
#include <vector>

#include "base/rpc/server.h"
#include "cli/data_dir.h"
#include "cli/gauges.h"
#include "expert_workers/client.h"
#include "expert_workers/membership.h"
#include "expert_workers/service.h"
#include "expert_workers/upstream/client.h"
#include "registry/client.h"
#include "registry/service.h"
#include "router_service/client.h"
#include "router_service/dispatch/registry_resolver.h"
#include "router_service/dispatch/worker_directory.h"
#include "router_service/gateway/gateway.h"
#include "router_service/journal/journal.h"
#include "router_service/journal/journal_estimates.h"
#include "router_service/policy/policy.h"
#include "router_service/router_core.h"
#include "router_service/service.h"

namespace conclave::cli {
namespace {

constexpr char kLocalWorker[] = "local";
// Reading one request takes 25 ms; a busy machine gets some patience, and
// then the fast tier's answer stands.
constexpr absl::Duration kEncoderTimeout = absl::Milliseconds(500);
// An expert just registered is chosen by the next request: that request waits
// while the fast tier learns the new samples, tens of milliseconds.
constexpr absl::Duration kHotAddPatience = absl::Milliseconds(200);
// A start waits as long for the categories: most sets are learned by then, and
// with the largest (seconds) the service is up within a second all the same.
// /readyz says that it still learns.
constexpr absl::Duration kFirstTrainingPatience = absl::Milliseconds(400);

// A model that is removed leaves memory too.
class UnloadingAdmin final : public registry::ModelAdmin {
 public:
  UnloadingAdmin(registry::ModelAdmin* store, workers::ModelHost* host)
      : store_(store), host_(host) {}
  absl::StatusOr<registry::ModelRecord> Import(
      const std::string& path, const std::string& name,
      const registry::ImportProgress& progress) override {
    return store_->Import(path, name, progress);
  }
  absl::Status Remove(const std::string& name) override {
    v1::UnloadRequest request;
    request.set_model(name);
    // A busy model leaves when it is done; only an idle one is waited for.
    constexpr absl::Duration kPatience = absl::Seconds(1);
    auto unloaded = std::make_shared<std::promise<void>>();
    auto call = host_->Unload(
        request, absl::Now() + kPatience,
        [unloaded](const absl::Status&) { unloaded->set_value(); });
    unloaded->get_future().wait_for(absl::ToChronoMilliseconds(2 * kPatience));
    return store_->Remove(name);
  }

 private:
  registry::ModelAdmin* const store_;
  workers::ModelHost* const host_;
};

absl::StatusOr<absl::Duration> Timeout(const char* flag, double seconds) {
  // Written so that NaN is refused too.
  if (!(seconds >= 0)) {
    return InvalidArgument("{} is {}; it must be 0 (any time) or more seconds",
                           flag, seconds);
  }
  return seconds == 0 ? absl::InfiniteDuration() : absl::Seconds(seconds);
}

// The first registered encoder, or the one named.
std::string EncoderModel(const registry::Snapshot& snapshot,
                         const std::string& wanted) {
  if (wanted != "auto") return snapshot.models.contains(wanted) ? wanted : "";
  for (const auto& [name, model] : snapshot.models) {
    if (model.architecture == "bert") return name;
  }
  return "";
}

class WiredHouse final : public House {
 public:
  explicit WiredHouse(const HouseOptions& options) : options_(options) {}

  absl::Status Open() {
    RETURN_IF_ERROR(CheckAddresses());
    ASSIGN_OR_RETURN(const workers::ModelHostOptions host_options,
                     ResolveWorkerOptions(options_.worker));
    ASSIGN_OR_RETURN(data_, DataDir::Open(options_.data_dir));
    ASSIGN_OR_RETURN(journal_,
                     router::Journal::Open(options_.data_dir + "/journal", {}));
    host_ = workers::ModelHost::Create(&data_->weights(), host_options);
    admin_ =
        std::make_unique<UnloadingAdmin>(&data_->model_admin(), host_.get());
    RETURN_IF_ERROR(OpenInside());
    RETURN_IF_ERROR(OpenRouter());
    RETURN_IF_ERROR(OpenOutside());
    RETURN_IF_ERROR(JoinLocalWorker());
    return OpenGateway();
  }

  ~WiredHouse() override {
    // Front to back: nobody is called who has gone.
    gateway_.reset();
    gauges_.reset();
    membership_.reset();
    router_client_.reset();
    if (outside_) outside_->Shutdown(absl::Now());
    core_.reset();
    registry_client_.reset();
    policy_.reset();
    if (inside_) inside_->Shutdown(absl::Now());
    host_.reset();
  }

  std::string http_address() const override { return gateway_->address(); }
  std::string grpc_address() const override { return grpc_address_; }

  bool Drain(absl::Time deadline) override {
    outside_->SetServing(false);
    const bool http_done = gateway_->Drain(deadline);
    outside_->Shutdown(deadline);
    return http_done;
  }

 private:
  absl::Status CheckAddresses() const {
    if (!gateway::IsLoopback(options_.grpc) && !options_.allow_remote_grpc) {
      return FailedPrecondition(
          "--grpc {} is open to other machines, and gRPC here has neither keys "
          "nor TLS: put a proxy with mTLS in front and bind loopback, or say "
          "--allow-remote-grpc on a network you trust",
          options_.grpc);
    }
    return absl::OkStatus();
  }

  // Registry and worker, for the router: no port.
  absl::Status OpenInside() {
    inside_registry_ =
        registry::MakeRegistryService(&data_->registry(), admin_.get());
    inside_worker_ = workers::MakeWorkerService(host_.get());
    ASSIGN_OR_RETURN(inside_, rpc::Server::Start("", {inside_registry_.get(),
                                                      inside_worker_.get()}));
    local_worker_ = workers::WorkerClient::Create(inside_->InProcessChannel());
    registry_client_ =
        registry::RegistryClient::Create(inside_->InProcessChannel());
    return registry_client_->WaitUntilReady(absl::Now() + absl::Seconds(10));
  }

  absl::Status OpenRouter() {
    router::RouterCoreOptions options;
    router::DispatchOptions& dispatch = options.dispatch;
    ASSIGN_OR_RETURN(
        dispatch.first_token_timeout,
        Timeout("--first-token-timeout", options_.first_token_timeout));
    ASSIGN_OR_RETURN(dispatch.token_timeout,
                     Timeout("--token-timeout", options_.token_timeout));
    upstream::UpstreamOptions upstream;
    upstream.first_byte_timeout = dispatch.first_token_timeout;
    upstream.idle_timeout = dispatch.token_timeout;
    ASSIGN_OR_RETURN(upstream_, upstream::UpstreamClient::Create(upstream));
    directory_ = std::make_unique<router::WorkerDirectory>(
        [this](const std::string& address)
            -> std::shared_ptr<workers::WorkerClient> {
          if (address == grpc_address_) return local_worker_;
          return workers::WorkerClient::Create(rpc::Connect(address));
        });
    resolver_ = std::make_unique<router::RegistryResolver>(
        directory_.get(), upstream_.get(), router::ProcessEnvironment);
    estimates_ = std::make_unique<router::JournalEstimates>(journal_.get());
    ASSIGN_OR_RETURN(router::PolicyOptions choice,
                     ResolveRoutingOptions(options_.routing));
    router::PolicyDependencies policy;
    policy.random = UniformRandom;
    policy.estimates = estimates_.get();
    if (options_.encoder != "none") {
      policy.embed = [this](std::string_view text) { return Embed(text); };
    }
    policy_ = std::make_unique<router::RoutingPolicy>(std::move(choice),
                                                      std::move(policy));
    registry_client_->OnChange(
        [this](std::shared_ptr<const registry::Snapshot> snapshot) {
          policy_->OnSnapshot(std::move(snapshot));
        });
    policy_->OnSnapshot(registry_client_->snapshot());
    router::RouterCoreDependencies core;
    core.decide = [this](const v1::GenerateRequest& request,
                         const registry::Snapshot& snapshot) {
      policy_->WaitForFastTier(kHotAddPatience);
      return policy_->Decide(request, snapshot);
    };
    core.registry = registry_client_.get();
    core.resolver = resolver_.get();
    core.journal = journal_.get();
    core.workers = directory_.get();
    core.remove_drained = [this](const registry::ExpertSpec& expert) {
      return registry::RemoveDrained(*registry_client_, expert,
                                     absl::Now() + absl::Seconds(5));
    };
    core_ = std::make_unique<router::RouterCore>(std::move(core), options);
    return absl::OkStatus();
  }

  absl::StatusOr<std::vector<float>> Embed(std::string_view text) {
    const std::string model =
        EncoderModel(*registry_client_->snapshot(), options_.encoder);
    if (model.empty()) return NotFound("no encoder is registered");
    v1::EmbedRequest request;
    request.set_model(model);
    request.add_inputs(std::string(text));
    ASSIGN_OR_RETURN(
        const v1::EmbedResponse response,
        local_worker_->Embed(request, absl::Now() + kEncoderTimeout));
    if (response.embeddings_size() != 1) return Internal("no embedding");
    const auto& values = response.embeddings(0).values();
    return std::vector<float>(values.begin(), values.end());
  }

  // All three services on the port that other processes use.
  absl::Status OpenOutside() {
    outside_registry_ =
        registry::MakeRegistryService(&data_->registry(), admin_.get());
    outside_worker_ = workers::MakeWorkerService(host_.get());
    router_service_ = std::make_unique<router::RouterService>(core_.get());
    ASSIGN_OR_RETURN(
        outside_, rpc::Server::Start(options_.grpc, {outside_registry_.get(),
                                                     outside_worker_.get(),
                                                     router_service_.get()}));
    const std::string host = options_.grpc.substr(0, options_.grpc.rfind(':'));
    const bool any = host == "0.0.0.0" || host == "[::]";
    grpc_address_ =
        fmt::format("{}:{}", any ? "127.0.0.1" : host, outside_->port());
    router_client_ = router::RouterClient::Create(outside_->InProcessChannel());
    return absl::OkStatus();
  }

  absl::Status JoinLocalWorker() {
    workers::MembershipOptions member;
    member.name = kLocalWorker;
    member.address = grpc_address_;
    member.models = [this] {
      std::vector<std::string> versions;
      for (const auto& model : data_->weights().List()) {
        versions.push_back(model.version);
      }
      return versions;
    };
    membership_ = workers::Membership::Create(registry_client_.get(), member);
    const absl::Time deadline = absl::Now() + absl::Seconds(10);
    while (absl::Now() < deadline) {
      const auto snapshot = registry_client_->snapshot();
      // A record of the last run may still be there.
      const auto local = snapshot->workers.find(kLocalWorker);
      if (membership_->status().ok() && local != snapshot->workers.end() &&
          local->second.address == grpc_address_) {
        policy_->WaitForFastTier(kFirstTrainingPatience);
        return absl::OkStatus();
      }
      absl::SleepFor(absl::Milliseconds(2));
    }
    return Annotate(membership_->status(), "the local worker did not join");
  }

  absl::Status OpenGateway() {
    gateway::GatewayOptions options;
    options.http.address = options_.http;
    if (!options_.api_key_file.empty()) {
      ASSIGN_OR_RETURN(options.keys,
                       gateway::ApiKeys::Load(options_.api_key_file));
    }
    gauges_ = std::make_unique<WorkerGauges>(host_.get());
    gateway::GatewayDeps deps;
    deps.router = router_client_.get();
    deps.registry = registry_client_.get();
    deps.gauges = [this] { return gauges_->Get(); };
    deps.not_ready = [this] { return NotReady(); };
    auto gateway = gateway::Gateway::Start(std::move(options), std::move(deps));
    if (!gateway.ok()) {
      return Annotate(gateway.status(),
                      fmt::format("--http {}", options_.http));
    }
    gateway_ = *std::move(gateway);
    return absl::OkStatus();
  }

  std::vector<std::string> NotReady() const {
    std::vector<std::string> reasons;
    if (const absl::Status member = membership_->status(); !member.ok()) {
      reasons.push_back("the local worker is not in the registry: " +
                        std::string(Message(member)));
    }
    const auto snapshot = registry_client_->snapshot();
    const bool serving =
        std::ranges::any_of(snapshot->experts, [](const auto& item) {
          return item.second->state == registry::ExpertState::kServing;
        });
    if (!serving) {
      reasons.emplace_back(
          snapshot->experts.empty()
              ? "no expert is registered; add one: conclave expert add NAME "
                "--model M"
              : "no expert is serving: no worker has their models, or they are "
                "draining");
    }
    // The first time only: who registers an expert later takes nobody away.
    if (!learned_ && policy_->WaitForFastTier(absl::ZeroDuration())) {
      learned_ = true;
    }
    if (!learned_) {
      reasons.emplace_back(
          "categories are being learned; until then general experts answer");
    }
    return reasons;
  }

  const HouseOptions options_;
  std::unique_ptr<DataDir> data_;
  std::unique_ptr<router::Journal> journal_;
  std::unique_ptr<workers::ModelHost> host_;
  std::unique_ptr<UnloadingAdmin> admin_;
  std::unique_ptr<grpc::Service> inside_registry_;
  std::unique_ptr<grpc::Service> inside_worker_;
  std::unique_ptr<rpc::Server> inside_;
  std::shared_ptr<workers::WorkerClient> local_worker_;
  std::unique_ptr<registry::RegistryClient> registry_client_;
  std::unique_ptr<upstream::UpstreamClient> upstream_;
  std::unique_ptr<router::WorkerDirectory> directory_;
  std::unique_ptr<router::RegistryResolver> resolver_;
  std::unique_ptr<router::JournalEstimates> estimates_;
  std::unique_ptr<router::RoutingPolicy> policy_;
  mutable std::atomic<bool> learned_ = false;  // the categories, once
  std::unique_ptr<router::RouterCore> core_;
  std::unique_ptr<grpc::Service> outside_registry_;
  std::unique_ptr<grpc::Service> outside_worker_;
  std::unique_ptr<grpc::Service> router_service_;
  std::unique_ptr<rpc::Server> outside_;
  std::string grpc_address_;  // set before the worker joins, then constant
  std::unique_ptr<router::RouterClient> router_client_;
  std::unique_ptr<workers::Membership> membership_;
  std::unique_ptr<WorkerGauges> gauges_;
  std::unique_ptr<gateway::Gateway> gateway_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<House>> House::Open(
    const HouseOptions& options) {
  auto house = std::make_unique<WiredHouse>(options);
  RETURN_IF_ERROR(house->Open());
  return std::unique_ptr<House>(std::move(house));
}

}  // namespace conclave::cli
