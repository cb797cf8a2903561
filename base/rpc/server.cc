#include "base/rpc/server.h"

#include <grpcpp/create_channel.h>
#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>

#include "base/check.h"

namespace conclave::rpc {
namespace {

constexpr int kKeepaliveMs = 10'000;

grpc::ChannelArguments ClientArguments() {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kMaxMessageBytes);
  arguments.SetMaxSendMessageSize(kMaxMessageBytes);
  // A worker that restarts is found again within a second.
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 1000);
  // A peer whose machine is gone says nothing: a stream that only listens
  // finds out by pinging.
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveMs);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveMs / 2);
  return arguments;
}

class GrpcServer final : public Server {
 public:
  absl::Status Build(const std::string& address,
                     const std::vector<grpc::Service*>& services) {
    static const bool plugins = [] {
      grpc::EnableDefaultHealthCheckService(true);
      grpc::reflection::InitProtoReflectionServerBuilderPlugin();
      // Debian's gRPC 1.51 now and then aborts ("prior > 0" in
      // grpc_cq_internal_unref) when the last user of its callback threads
      // goes: one server that never goes keeps them.
      static grpc::Server* const keeper =
          grpc::ServerBuilder().BuildAndStart().release();
      return keeper != nullptr;
    }();
    CHECK(plugins, "gRPC cannot start a server");
    grpc::ServerBuilder builder;
    builder.SetMaxReceiveMessageSize(kMaxMessageBytes);
    builder.SetMaxSendMessageSize(kMaxMessageBytes);
    // Without this a second server could take the same port unnoticed.
    builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
    builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, 1024);
    // Pings as often as our clients send them are no abuse.
    builder.AddChannelArgument(
        GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS,
        kKeepaliveMs / 2);
    builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveMs);
    builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveMs / 2);
    if (!address.empty()) {
      builder.AddListeningPort(address, grpc::InsecureServerCredentials(),
                               &port_);
    }
    for (grpc::Service* service : services) {
      builder.RegisterService(service);
      if (auto* stops = dynamic_cast<StopsStreams*>(service)) {
        stops_streams_.push_back(stops);
      }
    }
    server_ = builder.BuildAndStart();
    if (server_ == nullptr || (!address.empty() && port_ == 0)) {
      return Unavailable(
          "cannot listen on {}: the port is taken or the address is not this "
          "machine's; stop the other process or choose another with --grpc "
          "HOST:PORT",
          address);
    }
    return absl::OkStatus();
  }

  ~GrpcServer() override {
    if (server_ != nullptr) Shutdown(absl::Now());
  }

  std::shared_ptr<grpc::Channel> InProcessChannel() override {
    return server_->InProcessChannel(ClientArguments());
  }
  int port() const override { return port_; }
  void SetServing(bool serving) override {
    if (auto* health = server_->GetHealthCheckService()) {
      health->SetServingStatus(serving);
    }
  }
  void Shutdown(absl::Time deadline) override {
    for (StopsStreams* service : stops_streams_) service->StopStreams();
    server_->Shutdown(absl::ToChronoTime(deadline));
    server_->Wait();
  }

 private:
  std::unique_ptr<grpc::Server> server_;
  std::vector<StopsStreams*> stops_streams_;
  int port_ = 0;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Server>> Server::Start(
    const std::string& address, const std::vector<grpc::Service*>& services) {
  auto server = std::make_unique<GrpcServer>();
  RETURN_IF_ERROR(server->Build(address, services));
  return std::unique_ptr<Server>(std::move(server));
}

std::shared_ptr<grpc::Channel> Connect(const std::string& address) {
  return grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(),
                                   ClientArguments());
}

bool WaitForConnected(grpc::Channel& channel, absl::Time deadline) {
  const auto until = absl::ToChronoTime(deadline);
  grpc_connectivity_state state = channel.GetState(/*try_to_connect=*/true);
  while (state != GRPC_CHANNEL_READY) {
    if (state == GRPC_CHANNEL_TRANSIENT_FAILURE ||
        state == GRPC_CHANNEL_SHUTDOWN) {
      return false;
    }
    if (!channel.WaitForStateChange(state, until)) return false;
    state = channel.GetState(true);
  }
  return true;
}

}  // namespace conclave::rpc
