#include "expert_workers/upstream/answer_reader.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

namespace conclave::upstream {
namespace {

using Json = nlohmann::json;

constexpr int kMaxDepth = 64;

std::optional<Json> ParseObject(std::string_view text) {
  bool too_deep = false;
  Json value = Json::parse(
      text.begin(), text.end(),
      [&](int depth, Json::parse_event_t, Json&) {
        too_deep |= depth > kMaxDepth;
        return !too_deep;
      },
      /*allow_exceptions=*/false);
  if (too_deep || !value.is_object()) return std::nullopt;
  return value;
}

// The member, or null when absent or of another type.
const Json* Find(const Json& object, const char* key, Json::value_t type) {
  if (!object.is_object()) return nullptr;
  const auto it = object.find(key);
  return it != object.end() && it->type() == type ? &*it : nullptr;
}

std::string Text(const Json& object, const char* key) {
  const Json* value = Find(object, key, Json::value_t::string);
  return value == nullptr ? "" : value->get<std::string>();
}

int64_t Count(const Json& object, const char* key) {
  const Json* value = Find(object, key, Json::value_t::number_unsigned);
  if (value == nullptr) return 0;
  return static_cast<int64_t>(
      std::min<uint64_t>(value->get<uint64_t>(), INT64_MAX));
}

// Printable, and short: it goes into a message.
std::string Excerpt(std::string_view text) {
  std::string out(text.substr(0, 200));
  std::ranges::replace_if(
      out, [](char c) { return c < ' ' || c == 127; }, ' ');
  // A cut UTF-8 character would make the message unserialisable.
  std::erase_if(out, [](char c) { return c < 0; });
  return out;
}

float Finite(const Json& value) {
  // -inf is sent as null or as a very small number.
  if (!value.is_number()) return -1e30f;
  const double number = value.get<double>();
  return static_cast<float>(std::isfinite(number) ? std::max(number, -1e30)
                                                  : -1e30);
}

v1::TokenLogprob ReadLogprob(const Json& entry) {
  v1::TokenLogprob out;
  out.set_token(-1);
  if (const Json* bytes = Find(entry, "bytes", Json::value_t::array)) {
    for (const Json& byte : *bytes) {
      if (!byte.is_number_unsigned() || byte.get<uint64_t>() > 255) break;
      out.mutable_text()->push_back(static_cast<char>(byte.get<uint64_t>()));
    }
  } else {
    out.set_text(Text(entry, "token"));
  }
  out.set_logprob(Finite(entry.value("logprob", Json())));
  return out;
}

// chat: {"content": [{token, logprob, bytes, top_logprobs: [...]}]}
void AddChatLogprobs(const Json& logprobs, v1::GenerateEvent::Delta* delta) {
  const Json* content = Find(logprobs, "content", Json::value_t::array);
  if (content == nullptr) return;
  for (const Json& entry : *content) {
    if (!entry.is_object()) continue;
    v1::TokenLogprob* out = delta->add_logprobs();
    *out = ReadLogprob(entry);
    const Json* top = Find(entry, "top_logprobs", Json::value_t::array);
    if (top == nullptr) continue;
    for (const Json& alternative : *top) {
      if (alternative.is_object()) *out->add_top() = ReadLogprob(alternative);
    }
  }
}

// completions: {tokens: [...], token_logprobs: [...], top_logprobs: [{}...]}
void AddTextLogprobs(const Json& logprobs, v1::GenerateEvent::Delta* delta) {
  const Json* tokens = Find(logprobs, "tokens", Json::value_t::array);
  if (tokens == nullptr) return;
  const Json* values = Find(logprobs, "token_logprobs", Json::value_t::array);
  const Json* tops = Find(logprobs, "top_logprobs", Json::value_t::array);
  for (size_t i = 0; i < tokens->size(); ++i) {
    if (!(*tokens)[i].is_string()) continue;
    v1::TokenLogprob* out = delta->add_logprobs();
    out->set_token(-1);
    out->set_text((*tokens)[i].get<std::string>());
    if (values != nullptr && i < values->size()) {
      out->set_logprob(Finite((*values)[i]));
    }
    if (tops == nullptr || i >= tops->size() || !(*tops)[i].is_object()) {
      continue;
    }
    std::vector<v1::TokenLogprob> sorted;
    for (const auto& [text, value] : (*tops)[i].items()) {
      v1::TokenLogprob& alternative = sorted.emplace_back();
      alternative.set_token(-1);
      alternative.set_text(text);
      alternative.set_logprob(Finite(value));
    }
    std::ranges::stable_sort(sorted, [](const auto& a, const auto& b) {
      return a.logprob() > b.logprob();
    });
    for (const auto& alternative : sorted) *out->add_top() = alternative;
  }
}

std::string Reason(std::string reason) {
  for (const char* known : {"stop", "length", "tool_calls", "content_filter"}) {
    if (reason == known) return reason;
  }
  return reason == "function_call" ? "tool_calls" : "stop";
}

std::string ErrorText(const Json& body) {
  const auto error = body.find("error");
  if (error != body.end() && error->is_string()) {
    return error->get<std::string>();
  }
  const Json& object =
      error != body.end() && error->is_object() ? *error : body;
  std::string text = Text(object, "message");
  const std::string code = Text(object, "code");
  if (text.empty()) text = Text(object, "detail");
  return code.empty() ? text : code + ": " + text;
}

}  // namespace

absl::Status ErrorFromHttp(int http_status, std::string_view body) {
  const std::optional<Json> json = ParseObject(body);
  std::string why = json ? Excerpt(ErrorText(*json)) : "";
  if (!why.empty()) why.insert(0, ": ");
  switch (http_status) {
    case 400:
    case 413:
    case 422:
      return InvalidArgument("it refuses the request ({}){}", http_status, why);
    case 401:
    case 403:
      return Unavailable("it refuses our API key ({}){}", http_status, why);
    case 404:
      return Unavailable("it does not know that path or model (404){}", why);
    case 429:
      return ResourceExhausted("it asks to slow down (429){}", why);
    case 408:
    case 504:
      return Unavailable("it took too long ({}){}", http_status, why);
    default:
      if (http_status >= 300 && http_status < 400) {
        return Unavailable("it redirects ({}); redirects are not followed",
                           http_status);
      }
      return Unavailable("it answers with HTTP {}{}", http_status, why);
  }
}

AnswerReader::AnswerReader(const v1::WorkerGenerateRequest& request, Sink sink)
    : sink_(std::move(sink)),
      is_chat_(request.has_chat()),
      finished_(static_cast<size_t>(std::clamp(
          request.sampling().has_n() ? request.sampling().n() : 1, 1, 8))) {
  if (request.sampling().echo()) echo_text_ = request.text();
  usage_.mutable_usage();
}

absl::Status AnswerReader::Take(std::string_view data) {
  if (done_) return Unavailable("something follows its [DONE]");
  if (data == "[DONE]") {
    done_ = true;
    return absl::OkStatus();
  }
  if (data.empty()) return absl::OkStatus();
  const std::optional<Json> chunk = ParseObject(data);
  if (!chunk) {
    return Unavailable("an event of its stream is no JSON object: '{}'",
                       Excerpt(data.substr(0, 60)));
  }
  if (const auto error = chunk->find("error");
      error != chunk->end() && !error->is_null()) {
    const int64_t code = Count(*error, "code");
    return ErrorFromHttp(
        code >= 400 && code < 600 ? static_cast<int>(code) : 500, data);
  }
  const Json* choices = Find(*chunk, "choices", Json::value_t::array);
  if (choices == nullptr) {
    return Unavailable("an event of its stream has no choices");
  }
  if (!started_) SendStarted(Text(*chunk, "model"));
  RETURN_IF_ERROR(TakeChoices(choices));
  if (const Json* usage = Find(*chunk, "usage", Json::value_t::object)) {
    auto* out = usage_.mutable_usage();
    out->set_prompt_tokens(Count(*usage, "prompt_tokens"));
    out->set_completion_tokens(Count(*usage, "completion_tokens"));
    if (const Json* details =
            Find(*usage, "prompt_tokens_details", Json::value_t::object)) {
      out->set_cached_tokens(Count(*details, "cached_tokens"));
    }
  }
  return absl::OkStatus();
}

void AnswerReader::SendStarted(std::string model) {
  started_ = true;
  v1::GenerateEvent event;
  event.mutable_started()->set_model(std::move(model));
  event.mutable_started()->set_prompt_text(echo_text_);
  sink_(event);
}

absl::Status AnswerReader::TakeChoices(const void* choices) {
  for (const Json& choice : *static_cast<const Json*>(choices)) {
    if (!choice.is_object()) return Unavailable("a choice is no object");
    const int64_t index = Count(choice, "index");
    if (static_cast<size_t>(index) >= finished_.size()) {
      return Unavailable("it answers index {} of {}", index, finished_.size());
    }
    const size_t slot = static_cast<size_t>(index);
    v1::GenerateEvent event;
    auto* delta = event.mutable_delta();
    delta->set_index(static_cast<int32_t>(index));
    const Json* logprobs = Find(choice, "logprobs", Json::value_t::object);
    if (is_chat_) {
      if (const Json* message = Find(choice, "delta", Json::value_t::object)) {
        delta->set_text(Text(*message, "content"));
        const Json* calls = Find(*message, "tool_calls", Json::value_t::array);
        if (calls != nullptr && !calls->empty()) {
          delta->set_tool_calls_json(calls->dump());
        }
      }
      if (logprobs != nullptr) AddChatLogprobs(*logprobs, delta);
    } else {
      delta->set_text(Text(choice, "text"));
      if (logprobs != nullptr) AddTextLogprobs(*logprobs, delta);
    }
    const bool has_content = !delta->text().empty() ||
                             !delta->tool_calls_json().empty() ||
                             delta->logprobs_size() > 0;
    if (has_content && finished_[slot]) {
      return Unavailable("it goes on after its finish_reason");
    }
    if (has_content) sink_(event);
    const Json* reason = Find(choice, "finish_reason", Json::value_t::string);
    if (reason != nullptr && !finished_[slot]) {
      finished_[slot] = true;
      v1::GenerateEvent end;
      end.mutable_finished()->set_index(static_cast<int32_t>(index));
      end.mutable_finished()->set_reason(Reason(reason->get<std::string>()));
      sink_(end);
    }
  }
  return absl::OkStatus();
}

absl::Status AnswerReader::Finish() {
  const bool all_finished =
      std::ranges::all_of(finished_, [](bool finished) { return finished; });
  if (!started_ || (!done_ && !all_finished)) {
    return Unavailable("its stream ended early, without [DONE]");
  }
  for (size_t i = 0; i < finished_.size(); ++i) {
    if (finished_[i]) continue;
    v1::GenerateEvent end;
    end.mutable_finished()->set_index(static_cast<int32_t>(i));
    end.mutable_finished()->set_reason("stop");
    sink_(end);
  }
  sink_(usage_);
  return absl::OkStatus();
}

absl::StatusOr<v1::EmbedResponse> ReadEmbeddings(std::string_view body,
                                                 int num_inputs) {
  const std::optional<Json> json = ParseObject(body);
  const Json* data = json ? Find(*json, "data", Json::value_t::array) : nullptr;
  if (data == nullptr) return Unavailable("its answer holds no embeddings");
  if (data->size() != static_cast<size_t>(num_inputs)) {
    return Unavailable("it sends {} embeddings for {} inputs", data->size(),
                       num_inputs);
  }
  v1::EmbedResponse response;
  for (int i = 0; i < num_inputs; ++i) response.add_embeddings();
  std::vector<bool> seen(data->size());
  size_t dimension = 0;
  for (size_t i = 0; i < data->size(); ++i) {
    const Json& entry = (*data)[i];
    const Json* values = Find(entry, "embedding", Json::value_t::array);
    if (values == nullptr || values->empty()) {
      return Unavailable("embedding {} is missing", i);
    }
    const size_t index = entry.contains("index")
                             ? static_cast<size_t>(Count(entry, "index"))
                             : i;
    if (index >= seen.size() || seen[index]) {
      return Unavailable("its embeddings are numbered wrongly");
    }
    seen[index] = true;
    if (dimension == 0) dimension = values->size();
    if (values->size() != dimension) {
      return Unavailable("its embeddings differ in length");
    }
    auto* out = response.mutable_embeddings(static_cast<int>(index));
    for (const Json& value : *values) {
      if (!value.is_number())
        return Unavailable("embedding {} is no numbers", i);
      out->add_values(static_cast<float>(value.get<double>()));
    }
  }
  if (const Json* usage = Find(*json, "usage", Json::value_t::object)) {
    response.set_prompt_tokens(Count(*usage, "prompt_tokens"));
  }
  response.set_model(Text(*json, "model"));
  return response;
}

}  // namespace conclave::upstream
