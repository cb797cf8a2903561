#include "router_service/gateway/openai_request.h"

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "router_service/gateway/chat_messages.h"
#include "router_service/gateway/json_fields.h"
#include "router_service/gateway/json_parse.h"
#include "router_service/gateway/openai_error.h"
#include "router_service/gateway/sampling_fields.h"

namespace conclave::gateway {
namespace {

using nlohmann::json;

constexpr size_t kMaxModelBytes = 256;
constexpr size_t kMaxInputs = 256;
constexpr size_t kMaxCommentBytes = 4096;
// OpenAI's default for plain completions, and vLLM's.
constexpr int64_t kCompletionTokens = 16;
constexpr int64_t kMaxToken = std::numeric_limits<int32_t>::max();

// Fields of both kinds: those read by somebody, and those that do not change
// the answer.
#define CONCLAVE_COMMON_FIELDS                                                \
  "model", "stream", "stream_options", "temperature", "top_p", "min_p",       \
      "top_k", "repetition_penalty", "presence_penalty", "frequency_penalty", \
      "seed", "n", "stop", "logit_bias", "ignore_eos", "max_tokens",          \
      "logprobs", "user", "metadata", "store", "service_tier",                \
      "prompt_cache_key", "safety_identifier"
constexpr std::string_view kChatFields[] = {
    CONCLAVE_COMMON_FIELDS,  "messages",     "tools",           "tool_choice",
    "max_completion_tokens", "top_logprobs", "response_format", "modalities",
    "parallel_tool_calls",
};
constexpr std::string_view kCompletionFields[] = {
    CONCLAVE_COMMON_FIELDS, "prompt", "echo", "best_of", "response_format",
};
#undef CONCLAVE_COMMON_FIELDS
constexpr std::string_view kEmbeddingFields[] = {
    "model", "input", "encoding_format", "dimensions", "user"};
constexpr std::string_view kFeedbackFields[] = {"request_id", "score",
                                                "comment"};

// What OpenAI or vLLM have and we do not: said by name, rather than
// "unknown".
constexpr std::string_view kUnsupported[] = {
    "functions",
    "function_call",
    "audio",
    "prediction",
    "web_search_options",
    "reasoning_effort",
    "verbosity",
    "suffix",
    "guided_json",
    "guided_regex",
    "guided_choice",
    "guided_grammar",
    "structured_outputs",
    "json_schema",
    "grammar",
    "prompt_logprobs",
    "use_beam_search",
};

absl::StatusOr<json> ParseObject(std::string_view body) {
  ASSIGN_OR_RETURN(json parsed, ParseJson(body));
  if (!parsed.is_object()) {
    return WithCode(InvalidArgument("the body must be a JSON object, not {}",
                                    TypeName(parsed)),
                    "invalid_type");
  }
  return parsed;
}

absl::Status RefuseUnsupported(const json& body,
                               std::span<const std::string_view> known) {
  for (std::string_view name : kUnsupported) {
    if (Find(body, std::string(name).c_str()) == nullptr) continue;
    return FieldError(name, "unsupported_value", "{} is not supported", name);
  }
  // response_format {"type": "text"} asks for nothing.
  if (const json* format = Find(body, "response_format");
      format != nullptr && *format != json{{"type", "text"}}) {
    return FieldError("response_format", "unsupported_value",
                      "response_format is not supported: answers are plain "
                      "text and cannot be held to a schema");
  }
  if (const json* modalities = Find(body, "modalities");
      modalities != nullptr && *modalities != json::array({"text"})) {
    return FieldError("modalities", "unsupported_value",
                      "modalities: only [\"text\"] is supported");
  }
  // A null asks for nothing, even of what is not supported.
  std::vector<std::string_view> names(known.begin(), known.end());
  names.insert(names.end(), std::begin(kUnsupported), std::end(kUnsupported));
  return RefuseUnknown(body, names, "");
}

absl::StatusOr<std::string> ReadModel(const json& body) {
  ASSIGN_OR_RETURN(std::optional<std::string> model,
                   ReadString(body, "model", "model", kMaxModelBytes));
  if (!model.has_value()) return std::string("auto");
  if (model->empty()) {
    return FieldError("model", "invalid_value",
                      "model is empty; use \"auto\" to let the router choose");
  }
  for (char c : *model) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
      return FieldError("model", "invalid_value",
                        "model holds a control character");
    }
  }
  return *std::move(model);
}

absl::Status ReadStream(const json& body, GenerationRequest& request) {
  ASSIGN_OR_RETURN(const std::optional<bool> stream,
                   ReadBool(body, "stream", "stream"));
  request.stream = stream.value_or(false);
  const json* options = Find(body, "stream_options");
  if (options == nullptr) return absl::OkStatus();
  if (!options->is_object()) {
    return FieldError("stream_options", "invalid_type",
                      "stream_options must be an object, not {}",
                      TypeName(*options));
  }
  if (!request.stream) {
    return FieldError("stream_options", "invalid_value",
                      "stream_options needs \"stream\": true");
  }
  constexpr std::string_view kKnown[] = {"include_usage",
                                         "include_obfuscation"};
  RETURN_IF_ERROR(RefuseUnknown(*options, kKnown, "stream_options."));
  ASSIGN_OR_RETURN(
      const std::optional<bool> usage,
      ReadBool(*options, "include_usage", "stream_options.include_usage"));
  request.include_usage = usage.value_or(false);
  return absl::OkStatus();
}

absl::Status ReadChatLogprobs(const json& body, v1::SamplingParams& sampling) {
  ASSIGN_OR_RETURN(const std::optional<bool> wanted,
                   ReadBool(body, "logprobs", "logprobs"));
  ASSIGN_OR_RETURN(
      const std::optional<int64_t> top,
      ReadInt(body, "top_logprobs", "top_logprobs", 0, kMaxLogprobs));
  if (top.has_value() && !wanted.value_or(false)) {
    return FieldError("top_logprobs", "invalid_value",
                      "top_logprobs needs \"logprobs\": true");
  }
  if (wanted.value_or(false)) {
    sampling.set_logprobs(static_cast<int32_t>(top.value_or(0)));
  }
  return absl::OkStatus();
}

absl::Status ReadChatLength(const json& body, v1::SamplingParams& sampling) {
  ASSIGN_OR_RETURN(
      const std::optional<int64_t> old_name,
      ReadInt(body, "max_tokens", "max_tokens", 1, kMaxTokensLimit));
  ASSIGN_OR_RETURN(const std::optional<int64_t> new_name,
                   ReadInt(body, "max_completion_tokens",
                           "max_completion_tokens", 1, kMaxTokensLimit));
  if (old_name.has_value() && new_name.has_value() && old_name != new_name) {
    return FieldError("max_completion_tokens", "invalid_value",
                      "max_tokens and max_completion_tokens differ; give one");
  }
  if (new_name.has_value()) sampling.set_max_tokens(*new_name);
  if (old_name.has_value()) sampling.set_max_tokens(*old_name);
  return absl::OkStatus();
}

absl::Status ReadTokens(const json& ids, v1::TokenIds& out) {
  if (ids.empty()) {
    return FieldError("prompt", "invalid_value", "prompt holds no tokens");
  }
  out.mutable_ids()->Reserve(static_cast<int>(ids.size()));
  for (size_t i = 0; i < ids.size(); ++i) {
    ASSIGN_OR_RETURN(const int64_t id,
                     ToInt(ids[i], fmt::format("prompt[{}]", i), 0, kMaxToken));
    out.add_ids(static_cast<int32_t>(id));
  }
  return absl::OkStatus();
}

// A string, token ids, or an array of one of these.
absl::Status ReadPrompt(const json& body, v1::GenerateRequest& message) {
  const json* prompt = Find(body, "prompt");
  if (prompt == nullptr) {
    return FieldError("prompt", "missing_field", "prompt is missing");
  }
  if (prompt->is_array() && !prompt->empty() && !prompt->front().is_number()) {
    if (prompt->size() != 1) {
      return FieldError("prompt", "unsupported_value",
                        "prompt holds {} prompts; send one request for each",
                        prompt->size());
    }
    prompt = &prompt->front();
  }
  if (prompt->is_array()) return ReadTokens(*prompt, *message.mutable_tokens());
  if (!prompt->is_string()) {
    return FieldError("prompt", "invalid_type",
                      "prompt must be a string or an array of token ids, not "
                      "{}",
                      TypeName(*prompt));
  }
  if (prompt->get_ref<const std::string&>().empty()) {
    return FieldError("prompt", "invalid_value", "prompt is empty");
  }
  message.set_text(prompt->get<std::string>());
  return absl::OkStatus();
}

absl::Status ReadEcho(const json& body, v1::SamplingParams& sampling) {
  ASSIGN_OR_RETURN(const std::optional<bool> echo,
                   ReadBool(body, "echo", "echo"));
  sampling.set_echo(echo.value_or(false));
  ASSIGN_OR_RETURN(const std::optional<int64_t> logprobs,
                   ReadInt(body, "logprobs", "logprobs", 0, kMaxLogprobs));
  if (logprobs.has_value()) {
    sampling.set_logprobs(static_cast<int32_t>(*logprobs));
  }
  ASSIGN_OR_RETURN(
      const std::optional<int64_t> max_tokens,
      ReadInt(body, "max_tokens", "max_tokens", 0, kMaxTokensLimit));
  sampling.set_max_tokens(max_tokens.value_or(kCompletionTokens));
  ASSIGN_OR_RETURN(const std::optional<int64_t> best_of,
                   ReadInt(body, "best_of", "best_of", 1, 8));
  if (best_of.has_value() && *best_of != std::max(sampling.n(), 1)) {
    return FieldError("best_of", "unsupported_value",
                      "best_of is not supported unless it equals n");
  }
  return absl::OkStatus();
}

}  // namespace

bool IsRequestId(std::string_view id) {
  if (id.empty() || id.size() > 128) return false;
  return std::all_of(id.begin(), id.end(), [](char c) {
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
           (c >= '0' && c <= '9') || c == '.' || c == '_' || c == ':' ||
           c == '-';
  });
}

absl::StatusOr<GenerationRequest> ParseChatCompletion(std::string_view text) {
  ASSIGN_OR_RETURN(const json body, ParseObject(text));
  RETURN_IF_ERROR(RefuseUnsupported(body, kChatFields));
  GenerationRequest request;
  request.chat = true;
  v1::SamplingParams& sampling = *request.message.mutable_sampling();
  ASSIGN_OR_RETURN(*request.message.mutable_model(), ReadModel(body));
  RETURN_IF_ERROR(ReadMessages(body, *request.message.mutable_chat()));
  RETURN_IF_ERROR(ReadTools(body, *request.message.mutable_chat()));
  RETURN_IF_ERROR(ReadSampling(body, sampling));
  RETURN_IF_ERROR(ReadChatLength(body, sampling));
  RETURN_IF_ERROR(ReadChatLogprobs(body, sampling));
  RETURN_IF_ERROR(ReadStream(body, request));
  return request;
}

absl::StatusOr<GenerationRequest> ParseCompletion(std::string_view text) {
  ASSIGN_OR_RETURN(const json body, ParseObject(text));
  RETURN_IF_ERROR(RefuseUnsupported(body, kCompletionFields));
  GenerationRequest request;
  request.chat = false;
  v1::SamplingParams& sampling = *request.message.mutable_sampling();
  ASSIGN_OR_RETURN(*request.message.mutable_model(), ReadModel(body));
  RETURN_IF_ERROR(ReadPrompt(body, request.message));
  RETURN_IF_ERROR(ReadSampling(body, sampling));
  RETURN_IF_ERROR(ReadEcho(body, sampling));
  RETURN_IF_ERROR(ReadStream(body, request));
  return request;
}

absl::StatusOr<EmbeddingsRequest> ParseEmbeddings(std::string_view text) {
  ASSIGN_OR_RETURN(const json body, ParseObject(text));
  if (Find(body, "dimensions") != nullptr) {
    return FieldError("dimensions", "unsupported_value",
                      "dimensions is not supported: vectors come as the model "
                      "makes them");
  }
  RETURN_IF_ERROR(RefuseUnknown(body, kEmbeddingFields, ""));
  EmbeddingsRequest request;
  ASSIGN_OR_RETURN(*request.message.mutable_model(), ReadModel(body));
  ASSIGN_OR_RETURN(const std::optional<std::string> format,
                   ReadString(body, "encoding_format", "encoding_format", 16));
  if (format.has_value() && *format != "float" && *format != "base64") {
    return FieldError("encoding_format", "invalid_value",
                      "encoding_format must be \"float\" or \"base64\"");
  }
  request.base64 = format == "base64";
  const json* input = Find(body, "input");
  if (input == nullptr) {
    return FieldError("input", "missing_field", "input is missing");
  }
  const json inputs = input->is_array() ? *input : json::array({*input});
  if (inputs.empty() || inputs.size() > kMaxInputs) {
    return FieldError("input", "invalid_value",
                      "input must hold 1..{} strings, not {}", kMaxInputs,
                      inputs.size());
  }
  for (size_t i = 0; i < inputs.size(); ++i) {
    const std::string here =
        input->is_array() ? fmt::format("input[{}]", i) : std::string("input");
    if (!inputs[i].is_string()) {
      return FieldError(here, "invalid_type",
                        "{} must be a string, not {} (token ids are not "
                        "supported here)",
                        here, TypeName(inputs[i]));
    }
    if (inputs[i].get_ref<const std::string&>().empty()) {
      return FieldError(here, "invalid_value", "{} is empty", here);
    }
    request.message.add_inputs(inputs[i].get<std::string>());
  }
  return request;
}

absl::StatusOr<v1::RouteRequest> ParseRoute(std::string_view text) {
  ASSIGN_OR_RETURN(GenerationRequest parsed, ParseChatCompletion(text));
  v1::RouteRequest request;
  request.set_model(parsed.message.model());
  *request.mutable_chat() = std::move(*parsed.message.mutable_chat());
  return request;
}

absl::StatusOr<v1::FeedbackRequest> ParseFeedback(std::string_view text) {
  ASSIGN_OR_RETURN(const json body, ParseObject(text));
  RETURN_IF_ERROR(RefuseUnknown(body, kFeedbackFields, ""));
  v1::FeedbackRequest request;
  ASSIGN_OR_RETURN(const std::optional<std::string> id,
                   ReadString(body, "request_id", "request_id", 128));
  if (!id.has_value() || !IsRequestId(*id)) {
    return FieldError("request_id", id ? "invalid_value" : "missing_field",
                      "request_id must be the x-request-id of an answer");
  }
  request.set_request_id(*id);
  ASSIGN_OR_RETURN(const std::optional<double> score,
                   ReadNumber(body, "score", "score", 0, 1, false));
  if (!score.has_value()) {
    return FieldError("score", "missing_field",
                      "score is missing: 0 (bad) to 1 (good)");
  }
  request.set_score(*score);
  ASSIGN_OR_RETURN(const std::optional<std::string> comment,
                   ReadString(body, "comment", "comment", kMaxCommentBytes));
  request.set_comment(comment.value_or(""));
  return request;
}

}  // namespace conclave::gateway
