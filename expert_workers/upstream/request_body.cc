#include "expert_workers/upstream/request_body.h"

#include <nlohmann/json.hpp>

#include <utility>

namespace conclave::upstream {
namespace {

using Json = nlohmann::json;

// Tools nest: schemas within schemas. A parser that recurses needs a bound.
constexpr int kMaxDepth = 64;

absl::StatusOr<Json> ParseArray(std::string_view field,
                                const std::string& text) {
  bool too_deep = false;
  Json value = Json::parse(
      text,
      [&](int depth, Json::parse_event_t, Json&) {
        too_deep |= depth > kMaxDepth;
        return !too_deep;
      },
      /*allow_exceptions=*/false);
  if (too_deep || value.is_discarded() || !value.is_array()) {
    return InvalidArgument("{} is no JSON array (at most {} deep)", field,
                           kMaxDepth);
  }
  return value;
}

absl::Status AddMessages(const v1::ChatPrompt& chat, Json& body) {
  Json messages = Json::array();
  for (const v1::ChatMessage& message : chat.messages()) {
    Json& out = messages.emplace_back(Json::object());
    out["role"] = message.role();
    out["content"] = message.content();
    if (!message.name().empty()) out["name"] = message.name();
    if (!message.tool_calls_json().empty()) {
      ASSIGN_OR_RETURN(out["tool_calls"],
                       ParseArray("tool_calls", message.tool_calls_json()));
    }
    if (!message.tool_call_id().empty()) {
      out["tool_call_id"] = message.tool_call_id();
    }
  }
  body["messages"] = std::move(messages);
  if (!chat.tools_json().empty()) {
    ASSIGN_OR_RETURN(body["tools"], ParseArray("tools", chat.tools_json()));
  }
  return absl::OkStatus();
}

void AddSampling(const v1::SamplingParams& sampling, bool is_chat, Json& body) {
  if (sampling.has_temperature()) body["temperature"] = sampling.temperature();
  if (sampling.has_top_k()) body["top_k"] = sampling.top_k();
  if (sampling.has_top_p()) body["top_p"] = sampling.top_p();
  if (sampling.has_min_p()) body["min_p"] = sampling.min_p();
  if (sampling.has_repetition_penalty()) {
    body["repetition_penalty"] = sampling.repetition_penalty();
  }
  if (sampling.has_presence_penalty()) {
    body["presence_penalty"] = sampling.presence_penalty();
  }
  if (sampling.has_frequency_penalty()) {
    body["frequency_penalty"] = sampling.frequency_penalty();
  }
  for (const auto& [token, bias] : sampling.logit_bias()) {
    body["logit_bias"][std::to_string(token)] = bias;
  }
  if (sampling.has_seed()) body["seed"] = sampling.seed();
  for (const std::string& stop : sampling.stop()) {
    body["stop"].push_back(stop);
  }
  if (sampling.has_max_tokens()) body["max_tokens"] = sampling.max_tokens();
  if (sampling.ignore_eos()) body["ignore_eos"] = true;
  if (sampling.has_n()) body["n"] = sampling.n();
  if (sampling.has_logprobs()) {
    if (is_chat) {
      body["logprobs"] = true;
      body["top_logprobs"] = sampling.logprobs();
    } else {
      body["logprobs"] = sampling.logprobs();
    }
  }
}

// Strict: a string that is not UTF-8 makes dump() throw, which must not leave
// this file.
absl::StatusOr<std::string> Dump(const Json& body) {
  try {
    return body.dump();
  } catch (const Json::exception&) {
    return InvalidArgument("the request's text is not valid UTF-8");
  }
}

}  // namespace

absl::StatusOr<HttpRequest> MakeGenerateRequest(
    const v1::WorkerGenerateRequest& request, std::string_view remote_model) {
  HttpRequest out;
  Json body = {{"model", std::string(remote_model)},
               {"stream", true},
               {"stream_options", {{"include_usage", true}}}};
  if (request.sampling().echo() && request.sampling().has_logprobs()) {
    return InvalidArgument(
        "echo together with logprobs cannot be had from an endpoint; choose "
        "a model that runs here");
  }
  out.path = "/completions";
  switch (request.prompt_case()) {
    case v1::WorkerGenerateRequest::kChat:
      out.path = "/chat/completions";
      RETURN_IF_ERROR(AddMessages(request.chat(), body));
      break;
    case v1::WorkerGenerateRequest::kText:
      body["prompt"] = request.text();
      break;
    case v1::WorkerGenerateRequest::kTokens:
      body["prompt"] = std::vector<int32_t>(request.tokens().ids().begin(),
                                            request.tokens().ids().end());
      break;
    case v1::WorkerGenerateRequest::PROMPT_NOT_SET:
      return InvalidArgument("the request has no prompt");
  }
  AddSampling(request.sampling(), request.has_chat(), body);
  ASSIGN_OR_RETURN(out.body, Dump(body));
  return out;
}

absl::StatusOr<HttpRequest> MakeEmbedRequest(const v1::EmbedRequest& request,
                                             std::string_view remote_model) {
  HttpRequest out;
  Json body = {{"model", std::string(remote_model)},
               {"encoding_format", "float"}};
  Json& input = body["input"] = Json::array();
  for (const std::string& text : request.inputs()) input.push_back(text);
  out.path = "/embeddings";
  ASSIGN_OR_RETURN(out.body, Dump(body));
  return out;
}

}  // namespace conclave::upstream
