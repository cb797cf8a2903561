#include "bench/cold_start.h"

#include <absl/time/clock.h>
#include <fcntl.h>
#include <unistd.h>

#include <filesystem>
#include <future>
#include <memory>
#include <utility>

#include "base/clock.h"
#include "expert_workers/model_host.h"
#include "expert_workers/weights/raw_read.h"
#include "expert_workers/weights/weight_store.h"

namespace conclave {
namespace {

constexpr char kName[] = "model";

double Seconds() {
  return static_cast<double>(Clock::Real().MonotonicNanos()) * 1e-9;
}

// Seconds until the request for one token has ended.
absl::StatusOr<double> AskForOneToken(workers::ModelHost& host, int64_t tokens,
                                      int64_t serial) {
  v1::WorkerGenerateRequest request;
  request.set_request_id("cold");
  request.set_model(kName);
  for (int64_t i = 0; i < tokens; ++i) {
    // Another first token every time: the prefix cache must not help.
    request.mutable_tokens()->add_ids(
        static_cast<int32_t>(1000 + (i * 7919 + serial * 104729) % 20000));
  }
  request.mutable_sampling()->set_temperature(0);
  request.mutable_sampling()->set_max_tokens(1);
  std::promise<absl::Status> done;
  const double start = Seconds();
  const auto call = host.Generate(
      request, absl::InfiniteFuture(),
      {.on_event = [](const v1::GenerateEvent&) {},
       .on_done = [&done](absl::Status status) { done.set_value(status); }});
  RETURN_IF_ERROR(done.get_future().get());
  return Seconds() - start;
}

absl::Status Unload(workers::ModelHost& host) {
  v1::UnloadRequest request;
  request.set_model(kName);
  std::promise<absl::Status> done;
  const auto call =
      host.Unload(request, absl::InfiniteFuture(),
                  [&done](absl::Status status) { done.set_value(status); });
  return done.get_future().get();
}

}  // namespace

struct ColdStartBench::Store {
  std::unique_ptr<weights::WeightStore> weights;
  int64_t bytes = 0;  // of the model
};

ColdStartBench::ColdStartBench(std::string directory)
    : directory_(std::move(directory)), store_(new Store) {}

ColdStartBench::~ColdStartBench() {
  delete store_;
  std::error_code error;
  std::filesystem::remove_all(directory_, error);
}

absl::Status ColdStartBench::Import(const std::string& file) {
  ASSIGN_OR_RETURN(store_->weights,
                   weights::WeightStore::Open({.path = directory_}));
  ASSIGN_OR_RETURN(const auto entry,
                   store_->weights->Import(file, kName, nullptr));
  store_->bytes = entry.total_bytes;
  ::sync();
  return absl::OkStatus();
}

// The store reads past the cache where the file system lets it; where not, and
// for RocksDB's own small files, this is the cold start.
void ColdStartBench::DropPageCache() const {
  std::error_code error;
  for (const auto& entry :
       std::filesystem::recursive_directory_iterator(directory_, error)) {
    if (!entry.is_regular_file(error)) continue;
    const int fd = ::open(entry.path().c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) continue;
    ::posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    ::close(fd);
  }
}

absl::StatusOr<ColdStart> ColdStartBench::Run(int64_t prompt_tokens,
                                              int threads) {
  ColdStart result;
  DropPageCache();
  double start = Seconds();
  result.bytes = weights::RawRead(directory_);
  result.raw = Seconds() - start;
  workers::ModelHostOptions options;
  options.ram_budget_bytes = store_->bytes + store_->bytes / 10;
  options.threads = threads;
  const auto host = workers::ModelHost::Create(store_->weights.get(), options);
  DropPageCache();
  ASSIGN_OR_RETURN(result.started,
                   AskForOneToken(*host, prompt_tokens, ++serial_));
  ASSIGN_OR_RETURN(result.prompt,
                   AskForOneToken(*host, prompt_tokens, ++serial_));
  RETURN_IF_ERROR(Unload(*host));
  DropPageCache();
  ASSIGN_OR_RETURN(result.again,
                   AskForOneToken(*host, prompt_tokens, ++serial_));
  return result;
}

}  // namespace conclave
