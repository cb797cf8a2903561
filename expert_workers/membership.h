// Keeps a worker known to the registry: joins, heartbeats at a third of the
// lease and at once when the registry's models change, joins again when the
// lease was lost, leaves at the end.
//
//   joining -> member -> (lease lost) joining
//                     -> (another worker took the name) replaced, for good
#ifndef CONCLAVE_EXPERT_WORKERS_MEMBERSHIP_H_
#define CONCLAVE_EXPERT_WORKERS_MEMBERSHIP_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "registry/client.h"

namespace conclave::workers {

struct MembershipOptions {
  std::string name;     // the worker's
  std::string address;  // HOST:PORT where others reach it
  // Version ids it can run; asked before every heartbeat.
  std::function<std::vector<std::string>()> models;
  // Told of every change between member (OK) and not (why). May be empty.
  std::function<void(const absl::Status&)> on_change = {};
};

// Threads: status() any time; one thread of its own.
class Membership {
 public:
  // `client` is borrowed.
  static std::unique_ptr<Membership> Create(registry::RegistryClient* client,
                                            MembershipOptions options);
  // Leaves, if it is a member.
  virtual ~Membership() = default;

  // OK while it is a member.
  //   UNAVAILABLE  not yet, or the registry cannot be reached
  //   ABORTED      another worker joined under this name: it stays out
  virtual absl::Status status() const = 0;
};

}  // namespace conclave::workers

#endif  // CONCLAVE_EXPERT_WORKERS_MEMBERSHIP_H_
