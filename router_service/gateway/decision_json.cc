#include "router_service/gateway/decision_json.h"

#include <map>

namespace conclave::gateway {
namespace {

using nlohmann::ordered_json;

// Protobuf maps have no order; people and diffs want one.
template <typename ProtoMap>
ordered_json Sorted(const ProtoMap& map) {
  ordered_json out = ordered_json::object();
  for (const auto& [key, value] : std::map(map.begin(), map.end())) {
    out[key] = value;
  }
  return out;
}

ordered_json OutcomeJson(const v1::Outcome& outcome) {
  ordered_json out;
  out["expert"] = outcome.expert();
  out["status"] = outcome.status();
  out["finish_reason"] = outcome.finish_reason();
  out["prompt_tokens"] = outcome.prompt_tokens();
  out["completion_tokens"] = outcome.completion_tokens();
  out["ttft_us"] = outcome.ttft_us();
  out["total_us"] = outcome.total_us();
  out["attempts"] = ordered_json::array();
  for (const std::string& attempt : outcome.attempts()) {
    out["attempts"].push_back(attempt);
  }
  return out;
}

}  // namespace

ordered_json DecisionJson(const v1::Decision& decision) {
  ordered_json out;
  out["request_id"] = decision.request_id();
  out["expert"] = decision.expert();
  out["category"] = decision.category();
  out["confidence"] = decision.confidence();
  out["novelty"] = decision.novelty();
  out["posterior"] = Sorted(decision.posterior());
  out["candidates"] = ordered_json::array();
  for (const auto& candidate : decision.candidates()) {
    ordered_json one;
    one["expert"] = candidate.expert();
    one["quality"] = candidate.quality();
    one["cost"] = candidate.cost();
    one["score"] = candidate.score();
    one["propensity"] = candidate.propensity();
    one["why"] = candidate.why();
    out["candidates"].push_back(std::move(one));
  }
  out["tier"] = decision.tier();
  out["router_us"] = decision.router_us();
  out["versions"] = Sorted(decision.versions());
  out["why"] = decision.why();
  return out;
}

ordered_json ExplainJson(const v1::ExplainResponse& response) {
  ordered_json out = DecisionJson(response.decision());
  out["outcome"] = response.has_outcome() ? OutcomeJson(response.outcome())
                                          : ordered_json(nullptr);
  out["feedback"] = ordered_json::array();
  for (const v1::FeedbackRecord& record : response.feedback()) {
    ordered_json one;
    one["score"] = record.score();
    one["comment"] = record.comment();
    one["unix_ms"] = record.unix_ms();
    out["feedback"].push_back(std::move(one));
  }
  return out;
}

std::string Dump(const ordered_json& value) {
  return value.dump(-1, ' ', false, ordered_json::error_handler_t::replace);
}

}  // namespace conclave::gateway
