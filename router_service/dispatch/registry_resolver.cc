#include "router_service/dispatch/registry_resolver.h"

#include <cstdlib>
#include <utility>

#include "router_service/prompt/prompt_chain.h"

namespace conclave::router {
namespace {

class WorkerTarget final : public Target {
 public:
  WorkerTarget(std::shared_ptr<workers::WorkerClient> client,
               std::string version)
      : client_(std::move(client)), version_(std::move(version)) {}

  std::unique_ptr<StreamCall> Generate(const v1::WorkerGenerateRequest& request,
                                       absl::Time deadline,
                                       StreamCallbacks callbacks) override {
    v1::WorkerGenerateRequest copy = request;
    copy.set_model(version_);
    return client_->Generate(copy, deadline, std::move(callbacks));
  }
  absl::StatusOr<v1::EmbedResponse> Embed(const v1::EmbedRequest& request,
                                          absl::Time deadline) override {
    v1::EmbedRequest copy = request;
    copy.set_model(version_);
    return client_->Embed(copy, deadline);
  }

 private:
  const std::shared_ptr<workers::WorkerClient> client_;
  const std::string version_;
};

class UpstreamTarget final : public Target {
 public:
  UpstreamTarget(upstream::UpstreamClient* client,
                 upstream::UpstreamEndpoint endpoint)
      : client_(client), endpoint_(std::move(endpoint)) {}

  std::unique_ptr<StreamCall> Generate(const v1::WorkerGenerateRequest& request,
                                       absl::Time deadline,
                                       StreamCallbacks callbacks) override {
    return client_->Generate(request, endpoint_, deadline,
                             std::move(callbacks));
  }
  absl::StatusOr<v1::EmbedResponse> Embed(const v1::EmbedRequest& request,
                                          absl::Time deadline) override {
    return client_->Embed(request, endpoint_, deadline);
  }

 private:
  upstream::UpstreamClient* const client_;
  const upstream::UpstreamEndpoint endpoint_;
};

// Puts the chain's prompts before the request.
class PromptTarget final : public Target {
 public:
  PromptTarget(std::shared_ptr<Target> base, PromptChain chain)
      : base_(std::move(base)), chain_(std::move(chain)) {}

  std::unique_ptr<StreamCall> Generate(const v1::WorkerGenerateRequest& request,
                                       absl::Time deadline,
                                       StreamCallbacks callbacks) override {
    v1::WorkerGenerateRequest wrapped = request;
    if (request.has_chat()) {
      *wrapped.mutable_chat() = WrapChat(chain_, request.chat());
    } else if (request.has_text()) {
      wrapped.set_text(WrapText(chain_, request.text()));
    } else {
      callbacks.on_done(InvalidArgument(
          "expert {} puts a prompt before the request, which token ids do not "
          "allow; send text, or name {} itself",
          chain_.experts.front(), chain_.answers));
      return std::make_unique<EndedStream>();
    }
    return base_->Generate(wrapped, deadline, std::move(callbacks));
  }
  // A prompt says how to answer; there is no answer here.
  absl::StatusOr<v1::EmbedResponse> Embed(const v1::EmbedRequest& request,
                                          absl::Time deadline) override {
    return base_->Embed(request, deadline);
  }

 private:
  const std::shared_ptr<Target> base_;
  const PromptChain chain_;
};

absl::StatusOr<PromptChain> Chain(const registry::Snapshot& snapshot,
                                  const std::string& name) {
  return ResolvePromptChain(
      name, [&](std::string_view expert) -> std::optional<PromptLink> {
        const auto it = snapshot.experts.find(std::string(expert));
        if (it == snapshot.experts.end()) return std::nullopt;
        return PromptLink{it->second->base, it->second->prompt};
      });
}

}  // namespace

std::optional<std::string> ProcessEnvironment(const std::string& name) {
  const char* value = std::getenv(name.c_str());
  if (value == nullptr) return std::nullopt;
  return std::string(value);
}

RegistryResolver::RegistryResolver(WorkerDirectory* workers,
                                   upstream::UpstreamClient* upstream,
                                   Environment environment)
    : workers_(workers),
      upstream_(upstream),
      environment_(std::move(environment)) {}

absl::StatusOr<ResolvedExpert> RegistryResolver::Resolve(
    const registry::Snapshot& snapshot, const std::string& name) {
  ResolvedExpert resolved;
  resolved.uses.insert(name);
  if (!snapshot.experts.contains(name)) {
    ASSIGN_OR_RETURN(resolved.targets, ModelTargets(snapshot, name, ""));
    return resolved;
  }
  ASSIGN_OR_RETURN(const PromptChain chain, Chain(snapshot, name));
  resolved.uses.insert(chain.experts.begin(), chain.experts.end());
  const registry::ExpertSpec& expert = *snapshot.experts.at(chain.answers);
  if (!expert.endpoint.url.empty()) {
    ASSIGN_OR_RETURN(ResolvedTarget target, EndpointTarget(expert.endpoint));
    resolved.targets.push_back(std::move(target));
  } else {
    ASSIGN_OR_RETURN(resolved.targets,
                     ModelTargets(snapshot, expert.model, expert.worker));
  }
  if (!chain.prompts.empty()) {
    for (ResolvedTarget& target : resolved.targets) {
      target.target =
          std::make_shared<PromptTarget>(std::move(target.target), chain);
    }
  }
  return resolved;
}

absl::StatusOr<std::vector<ResolvedTarget>> RegistryResolver::ModelTargets(
    const registry::Snapshot& snapshot, const std::string& model,
    const std::string& worker) {
  const auto it = snapshot.models.find(model);
  if (it == snapshot.models.end()) {
    return NotFound("no model is called {}", model);
  }
  std::vector<ResolvedTarget> targets;
  for (const auto& record : workers_->Choose(snapshot, it->second, worker)) {
    targets.push_back(
        {fmt::format("worker {} {}", record.address, model),
         std::make_shared<WorkerTarget>(workers_->Client(record.address),
                                        it->second.version)});
  }
  if (targets.empty()) {
    if (worker.empty()) {
      return Unavailable("no worker that can run model {} is there now", model);
    }
    return Unavailable("worker {}, where model {} is placed, is not there now",
                       worker, model);
  }
  return targets;
}

absl::StatusOr<ResolvedTarget> RegistryResolver::EndpointTarget(
    const registry::Endpoint& endpoint) {
  if (upstream_ == nullptr) {
    return Unavailable("endpoints are not asked by this router");
  }
  upstream::UpstreamEndpoint out;
  out.url = endpoint.url;
  out.remote_model = endpoint.remote_model;
  out.insecure = endpoint.insecure;
  if (!endpoint.api_key_env.empty()) {
    std::optional<std::string> key = environment_(endpoint.api_key_env);
    if (!key) {
      return Unavailable(
          "the environment variable {} that should hold the endpoint's key is "
          "not set where the router runs",
          endpoint.api_key_env);
    }
    out.api_key = *std::move(key);
  }
  return ResolvedTarget{
      fmt::format("endpoint {} {}", out.url, out.remote_model),
      std::make_shared<UpstreamTarget>(upstream_, std::move(out))};
}

}  // namespace conclave::router
