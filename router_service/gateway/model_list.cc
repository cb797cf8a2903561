#include "router_service/gateway/model_list.h"

#include <set>

#include "base/names.h"

namespace conclave::gateway {
namespace {

using nlohmann::ordered_json;

ordered_json Entry(const std::string& id, int64_t created, const char* kind) {
  ordered_json entry;
  entry["id"] = id;
  entry["object"] = "model";
  entry["created"] = created;
  entry["owned_by"] = "conclave";
  entry["kind"] = kind;
  return entry;
}

ordered_json Entries(const registry::Snapshot& snapshot) {
  ordered_json all = ordered_json::array({Entry("auto", 0, "router")});
  std::set<std::string> seen;
  const auto add = [&](const std::string& id, int64_t created,
                       const char* kind) {
    if (seen.insert(id).second) all.push_back(Entry(id, created, kind));
  };
  for (const auto& [name, expert] : snapshot.experts) {
    if (expert->state != registry::ExpertState::kServing) continue;
    add(name, expert->created_unix_ms / 1000, "expert");
  }
  for (const auto& [name, expert] : snapshot.aliases) add(name, 0, "alias");
  for (const auto& [name, model] : snapshot.models) add(name, 0, "model");
  return all;
}

}  // namespace

ordered_json ModelList(const registry::Snapshot& snapshot) {
  ordered_json list;
  list["object"] = "list";
  list["data"] = Entries(snapshot);
  return list;
}

std::vector<std::string> ModelNames(const registry::Snapshot& snapshot) {
  std::vector<std::string> names;
  for (const ordered_json& entry : Entries(snapshot)) {
    names.push_back(entry["id"].get<std::string>());
  }
  return names;
}

absl::StatusOr<ordered_json> ModelEntry(const registry::Snapshot& snapshot,
                                        const std::string& id) {
  for (const ordered_json& entry : Entries(snapshot)) {
    if (entry["id"] == id) return entry;
  }
  return NotFound("no expert or model is named \"{}\".{}", id.substr(0, 128),
                  DidYouMean(id, ModelNames(snapshot)));
}

}  // namespace conclave::gateway
