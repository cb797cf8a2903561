#include "expert_workers/membership.h"

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <utility>

namespace conclave::workers {
namespace {

constexpr absl::Duration kFirstRetry = absl::Milliseconds(100);
constexpr absl::Duration kSlowestRetry = absl::Seconds(3);
constexpr absl::Duration kCallTimeout = absl::Seconds(5);
constexpr absl::Duration kLeaveTimeout = absl::Seconds(1);

// What ends a pause early. Shared with the registry client's callback, which
// may outlive the membership.
struct Alarm {
  std::mutex mutex;
  std::condition_variable rings;
  bool stop = false;
  bool models_changed = false;

  void Ring(bool Alarm::*what) {
    {
      std::lock_guard lock(mutex);
      this->*what = true;
    }
    rings.notify_all();
  }
};

class MembershipImpl final : public Membership {
 public:
  MembershipImpl(registry::RegistryClient* client, MembershipOptions options)
      : client_(client),
        options_(std::move(options)),
        status_(Unavailable("joining the registry")),
        thread_([this] { Run(); }) {
    // A model just imported is served by the next request, not by the next
    // heartbeat.
    client_->OnChange(
        [alarm = alarm_, models = client_->snapshot()->models](
            std::shared_ptr<const registry::Snapshot> snapshot) mutable {
          if (snapshot->models == models) return;
          models = snapshot->models;
          alarm->Ring(&Alarm::models_changed);
        });
  }

  ~MembershipImpl() override {
    alarm_->Ring(&Alarm::stop);
    thread_.join();
  }

  absl::Status status() const override {
    std::lock_guard lock(mutex_);
    return status_;
  }

 private:
  // Less when the models change. False when it is time to stop.
  bool Sleep(absl::Duration duration) {
    std::unique_lock lock(alarm_->mutex);
    alarm_->rings.wait_for(lock, absl::ToChronoNanoseconds(duration), [this] {
      return alarm_->stop || alarm_->models_changed;
    });
    alarm_->models_changed = false;
    return !alarm_->stop;
  }

  void Set(const absl::Status& status) {
    bool changed = false;
    {
      std::lock_guard lock(mutex_);
      changed = status_.code() != status.code();
      status_ = status;
    }
    if (changed && options_.on_change) options_.on_change(status);
  }

  void Run() {
    absl::Duration retry = kFirstRetry;
    for (;;) {
      const auto joined =
          client_->JoinWorker(options_.name, options_.address,
                              options_.models(), absl::Now() + kCallTimeout);
      if (!joined.ok()) {
        Set(joined.status());
        if (!Sleep(retry)) return;
        retry = std::min(retry * 2, kSlowestRetry);
        continue;
      }
      retry = kFirstRetry;
      Set(absl::OkStatus());
      if (!Stay(*joined)) return;
    }
  }

  // Heartbeats while the lease can be kept. False when it is over for good.
  bool Stay(const registry::WorkerRecord& joined) {
    absl::Time lease_end = absl::FromUnixMillis(joined.lease_expires_unix_ms);
    const absl::Duration third =
        std::max((lease_end - absl::Now()) / 3, absl::Milliseconds(20));
    absl::Duration pause = third;
    for (;;) {
      if (!Sleep(pause)) {
        (void)client_->LeaveWorker(options_.name, joined.epoch,
                                   absl::Now() + kLeaveTimeout);
        return false;
      }
      const auto renewed = client_->HeartbeatWorker(
          options_.name, joined.epoch, options_.models(), absl::Now() + third);
      if (renewed.ok()) {
        lease_end = absl::FromUnixMillis(renewed->lease_expires_unix_ms);
        pause = third;
        Set(absl::OkStatus());
        continue;
      }
      Set(renewed.status());
      // Two processes under one name would throw each other out for ever.
      if (absl::IsAborted(renewed.status())) return false;
      if (absl::IsNotFound(renewed.status()) || absl::Now() > lease_end) {
        return true;
      }
      pause = std::min(third, kFirstRetry);
    }
  }

  registry::RegistryClient* const client_;
  const MembershipOptions options_;
  const std::shared_ptr<Alarm> alarm_ = std::make_shared<Alarm>();
  mutable std::mutex mutex_;
  absl::Status status_;
  std::thread thread_;  // last: uses all of the above
};

}  // namespace

std::unique_ptr<Membership> Membership::Create(registry::RegistryClient* client,
                                               MembershipOptions options) {
  return std::make_unique<MembershipImpl>(client, std::move(options));
}

}  // namespace conclave::workers
