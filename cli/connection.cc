#include "cli/connection.h"

#include <absl/time/clock.h>

#include <CLI/CLI.hpp>
#include <cstdlib>
#include <random>

#include "base/rpc/server.h"
#include "cli/data_dir.h"
#include "registry/service.h"

namespace conclave::cli {
namespace {

// Long enough for a busy machine, short enough to notice that nobody is there.
constexpr absl::Duration kConnectTimeout = absl::Seconds(2);

absl::Status NobodyAnswers(const std::string& address) {
  return Unavailable(
      "nobody answers at {}; start one with `conclave serve`, or name another "
      "with --server HOST:PORT",
      address);
}

class RemoteRegistry final : public RegistryConnection {
 public:
  RemoteRegistry(std::string address,
                 std::unique_ptr<registry::RegistryClient> client)
      : address_(std::move(address)), client_(std::move(client)) {}
  registry::RegistryClient& client() override { return *client_; }
  const std::string& where() const override { return address_; }
  bool serves() const override { return true; }

 private:
  const std::string address_;
  const std::unique_ptr<registry::RegistryClient> client_;
};

// The registry service over the data directory, inside this process.
class LocalRegistry final : public RegistryConnection {
 public:
  explicit LocalRegistry(std::string path) : path_(std::move(path)) {}

  absl::Status Open() {
    ASSIGN_OR_RETURN(data_, DataDir::Open(path_));
    service_ = registry::MakeRegistryService(&data_->registry(),
                                             &data_->model_admin());
    ASSIGN_OR_RETURN(server_, rpc::Server::Start("", {service_.get()}));
    client_ = registry::RegistryClient::Create(server_->InProcessChannel());
    return client_->WaitUntilReady(absl::Now() + absl::Seconds(10));
  }
  ~LocalRegistry() override {
    client_.reset();
    if (server_ != nullptr) server_->Shutdown(absl::Now() + absl::Seconds(1));
  }
  registry::RegistryClient& client() override { return *client_; }
  const std::string& where() const override { return path_; }
  bool serves() const override { return false; }

 private:
  const std::string path_;
  std::unique_ptr<DataDir> data_;
  std::unique_ptr<grpc::Service> service_;
  std::unique_ptr<rpc::Server> server_;
  std::unique_ptr<registry::RegistryClient> client_;
};

}  // namespace

std::string DefaultDataDir() {
  if (const char* base = std::getenv("XDG_DATA_HOME"); base && *base) {
    return std::string(base) + "/conclave";
  }
  const char* home = std::getenv("HOME");
  return std::string(home != nullptr ? home : ".") + "/.local/share/conclave";
}

std::string NewIdempotencyKey() {
  std::random_device device;
  return fmt::format("cli-{:08x}{:08x}{:08x}", device(), device(), device());
}

void AddConnectionOptions(CLI::App& command, ConnectionOptions& options,
                          bool with_data_dir) {
  if (!with_data_dir) options.needs_service = true;
  command
      .add_option("--server", options.server,
                  "HOST:PORT of a running service (default 127.0.0.1:50051)")
      ->envname("CONCLAVE_SERVER");
  if (with_data_dir) {
    command
        .add_option("--data-dir", options.data_dir,
                    "Used when no service runs (default "
                    "~/.local/share/conclave)")
        ->envname("CONCLAVE_DATA_DIR");
  }
}

absl::StatusOr<std::unique_ptr<RegistryConnection>> ConnectRegistry(
    const ConnectionOptions& options) {
  const std::string address =
      options.server.empty() ? kDefaultGrpcAddress : options.server;
  auto channel = rpc::Connect(address);
  if (rpc::WaitForConnected(*channel, absl::Now() + kConnectTimeout)) {
    auto client = registry::RegistryClient::Create(std::move(channel));
    return std::make_unique<RemoteRegistry>(address, std::move(client));
  }
  if (options.needs_service) return NobodyAnswers(address);
  const std::string path =
      options.data_dir.empty() ? DefaultDataDir() : options.data_dir;
  auto local = std::make_unique<LocalRegistry>(path);
  const absl::Status opened = local->Open();
  if (!opened.ok()) {
    return Annotate(
        opened,
        fmt::format("nobody answers at {}; data directory {}", address, path));
  }
  return std::unique_ptr<RegistryConnection>(std::move(local));
}

absl::StatusOr<std::unique_ptr<router::RouterClient>> ConnectRouter(
    const ConnectionOptions& options) {
  const std::string address =
      options.server.empty() ? kDefaultGrpcAddress : options.server;
  auto channel = rpc::Connect(address);
  if (!rpc::WaitForConnected(*channel, absl::Now() + kConnectTimeout)) {
    return NobodyAnswers(address);
  }
  return router::RouterClient::Create(std::move(channel));
}

}  // namespace conclave::cli
