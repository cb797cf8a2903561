// The registry's value types. Plain values, copied freely.
#ifndef CONCLAVE_REGISTRY_EXPERT_SPEC_H_
#define CONCLAVE_REGISTRY_EXPERT_SPEC_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace conclave::registry {

// joining <-> serving -> draining -> gone; expert_state.h says when.
enum class ExpertState : uint8_t {
  kJoining = 1,
  kServing = 2,
  kDraining = 3,
  kGone = 4,
};

struct Endpoint {
  std::string url;  // http(s)://host[:port]/v1; empty: not upstream
  std::string remote_model;
  std::string api_key_env;  // the variable's name, never the key
  bool insecure = false;
  friend bool operator==(const Endpoint&, const Endpoint&) = default;
};

struct Sample {
  std::string text;
  std::string category;
  friend bool operator==(const Sample&, const Sample&) = default;
};

// Exactly one of model, endpoint.url and base is set.
struct ExpertSpec {
  std::string name;
  ExpertState state = ExpertState::kServing;
  uint64_t version = 0;
  std::string model;
  Endpoint endpoint;
  std::string base;
  std::string prompt;
  std::vector<std::string> categories;
  std::vector<Sample> samples;
  double cost = 0;
  double quality = 0;
  std::string worker;
  int64_t created_unix_ms = 0;
  friend bool operator==(const ExpertSpec&, const ExpertSpec&) = default;
};

struct ModelRecord {
  std::string name;
  std::string version;
  std::string architecture;
  int64_t bytes = 0;
  int64_t parameters = 0;
  int64_t context = 0;
  std::string source;
  friend bool operator==(const ModelRecord&, const ModelRecord&) = default;
};

struct WorkerRecord {
  std::string name;
  std::string address;
  uint64_t epoch = 0;
  int64_t lease_expires_unix_ms = 0;
  std::vector<std::string> models;  // version ids
  friend bool operator==(const WorkerRecord&, const WorkerRecord&) = default;
};

struct AliasRecord {
  std::string expert;
  uint64_t version = 0;  // grows whenever the alias is set
  friend bool operator==(const AliasRecord&, const AliasRecord&) = default;
};

// The whole state at one revision; immutable once published. Experts are
// shared between snapshots (never null), so that a change copies pointers and
// not everyone's samples.
struct Snapshot {
  uint64_t revision = 0;
  std::map<std::string, std::shared_ptr<const ExpertSpec>> experts;
  std::map<std::string, ModelRecord> models;
  std::map<std::string, AliasRecord> aliases;
  std::map<std::string, WorkerRecord> workers;  // leases in force
};

}  // namespace conclave::registry

#endif  // CONCLAVE_REGISTRY_EXPERT_SPEC_H_
