// Which requests may still use which expert: so that a draining expert is
// removed when, and only when, nothing of it runs.
//
// A request that began before an expert drained may have chosen it, or may
// still fall back to it. Its ticket starts by standing for every expert of its
// snapshot, is narrowed to the candidates once they are known, and to the one
// who answers once the first token is out.
//
// Threads: all methods may run concurrently. Tickets must be gone before
// their InFlight.
#ifndef CONCLAVE_ROUTER_SERVICE_DISPATCH_IN_FLIGHT_H_
#define CONCLAVE_ROUTER_SERVICE_DISPATCH_IN_FLIGHT_H_

#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>

namespace conclave::router {

class InFlight {
  struct Entry {
    uint64_t revision = 0;  // of its snapshot; 0: not taken yet
    std::optional<std::set<std::string>> experts;  // absent: any
    std::string answering;
  };

 public:
  // `on_change` is called after a ticket ends or narrows; it must not block.
  explicit InFlight(std::function<void()> on_change = {})
      : on_change_(std::move(on_change)) {}

  // Move-only; ends its request when destroyed.
  class Ticket {
   public:
    Ticket() = default;
    Ticket(Ticket&& other) noexcept
        : owner_(std::exchange(other.owner_, nullptr)), entry_(other.entry_) {}
    Ticket& operator=(Ticket&& other) noexcept {
      if (this != &other) {
        End();
        owner_ = std::exchange(other.owner_, nullptr);
        entry_ = other.entry_;
      }
      return *this;
    }
    ~Ticket() { End(); }

    void SetRevision(uint64_t revision);
    void Narrow(std::set<std::string> experts);
    // `expert` answers, through `experts` (itself and its bases); nobody else
    // is needed any more.
    void Answering(const std::string& expert, std::set<std::string> experts);
    void End();

   private:
    friend class InFlight;
    Ticket(InFlight* owner, std::list<Entry>::iterator entry)
        : owner_(owner), entry_(entry) {}
    InFlight* owner_ = nullptr;
    std::list<Entry>::iterator entry_;
  };

  // To be called before the snapshot is taken.
  Ticket Begin();

  // True when no request that took a snapshot older than `revision` may still
  // use `expert`.
  bool IdleSince(std::string_view expert, uint64_t revision) const;

  // Requests being answered now, by expert.
  std::map<std::string, int64_t> Counts() const;

 private:
  const std::function<void()> on_change_;
  mutable std::mutex mutex_;
  std::list<Entry> entries_;
};

}  // namespace conclave::router

#endif  // CONCLAVE_ROUTER_SERVICE_DISPATCH_IN_FLIGHT_H_
