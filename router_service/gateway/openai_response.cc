#include "router_service/gateway/openai_response.h"

#include <absl/strings/escaping.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

#include "router_service/gateway/decision_json.h"
#include "router_service/gateway/openai_error.h"

namespace conclave::gateway {
namespace {

using nlohmann::ordered_json;
using Event = v1::GenerateEvent;

ordered_json UsageJson(const Event::Usage& usage) {
  ordered_json out;
  out["prompt_tokens"] = usage.prompt_tokens();
  out["completion_tokens"] = usage.completion_tokens();
  out["total_tokens"] = usage.prompt_tokens() + usage.completion_tokens();
  out["prompt_tokens_details"]["cached_tokens"] = usage.cached_tokens();
  return out;
}

bool InRange(int index, int n) { return index >= 0 && index < n; }

ordered_json ParseArray(std::string_view text) {
  auto parsed = ordered_json::parse(text, nullptr, /*allow_exceptions=*/false);
  return parsed.is_array() ? parsed : ordered_json();
}

std::string Sse(const ordered_json& value) {
  return "data: " + Dump(value) + "\n\n";
}

// A chunk's choice: logprobs and finish_reason are always there, as OpenAI's.
ordered_json ChunkChoice(int index, bool chat) {
  ordered_json choice;
  choice["index"] = index;
  if (chat) {
    choice["delta"] = ordered_json::object();
  } else {
    choice["text"] = "";
  }
  choice["logprobs"] = nullptr;
  choice["finish_reason"] = nullptr;
  return choice;
}

absl::Status CheckComplete(bool all_finished, bool has_usage) {
  if (all_finished && has_usage) return absl::OkStatus();
  return Internal("the answer's stream ended without {}",
                  all_finished ? "usage" : "a finish reason");
}

}  // namespace

AnswerFormat FormatFor(const GenerationRequest& request,
                       int64_t created_unix_s) {
  const v1::SamplingParams& sampling = request.message.sampling();
  AnswerFormat format;
  format.chat = request.chat;
  format.include_usage = request.include_usage;
  format.echo = sampling.echo();
  format.n = std::max(1, sampling.n());
  if (sampling.has_logprobs()) format.logprobs = sampling.logprobs();
  format.created_unix_s = created_unix_s;
  format.request_id = request.message.request_id();
  return format;
}

ordered_json AnswerEnvelope(const AnswerFormat& format, bool chunk,
                            const Event::Started& who) {
  ordered_json out;
  out["id"] = (format.chat ? "chatcmpl-" : "cmpl-") + format.request_id;
  out["object"] = !format.chat ? "text_completion"
                  : chunk      ? "chat.completion.chunk"
                               : "chat.completion";
  out["created"] = format.created_unix_s;
  out["model"] = who.expert();
  out["system_fingerprint"] =
      who.model().empty() ? ordered_json(nullptr)
                          : ordered_json("fp_" + who.model().substr(0, 16));
  return out;
}

AnswerStream::AnswerStream(AnswerFormat format)
    : format_(std::move(format)),
      logprobs_(static_cast<size_t>(format_.n)),
      finished_(static_cast<size_t>(format_.n)) {}

ordered_json AnswerStream::Chunk() const {
  return AnswerEnvelope(format_, /*chunk=*/true, started_);
}

std::string AnswerStream::Send(ordered_json choice) const {
  ordered_json chunk = Chunk();
  chunk["choices"] = ordered_json::array({std::move(choice)});
  // With include_usage every chunk but the last says null, as OpenAI's do.
  if (format_.include_usage) chunk["usage"] = nullptr;
  return Sse(chunk);
}

std::string AnswerStream::OnEvent(const Event& event) {
  switch (event.event_case()) {
    case Event::kStarted:
      return First(event.started());
    case Event::kDelta:
      return Next(event.delta());
    case Event::kFinished:
      return Last(event.finished());
    case Event::kUsage:
      usage_ = event.usage();
      return "";
    case Event::EVENT_NOT_SET:
      return "";
  }
  return "";
}

std::string AnswerStream::First(const Event::Started& started) {
  started_ = started;
  std::string out;
  for (int i = 0; i < format_.n; ++i) {
    ordered_json choice = ChunkChoice(i, format_.chat);
    if (format_.chat) {
      choice["delta"]["role"] = "assistant";
      choice["delta"]["content"] = "";
      out += Send(std::move(choice));
    } else if (format_.echo) {
      choice["text"] = started.prompt_text();
      if (format_.logprobs.has_value()) {
        CompletionLogprobs& logprobs = logprobs_[static_cast<size_t>(i)];
        logprobs.Append(started.prompt_logprobs(), *format_.logprobs,
                        /*first_unknown=*/true);
        choice["logprobs"] = logprobs.Take();
      }
      out += Send(std::move(choice));
    }
  }
  return out;
}

std::string AnswerStream::Next(const Event::Delta& delta) {
  if (!InRange(delta.index(), format_.n)) return "";
  ordered_json choice = ChunkChoice(delta.index(), format_.chat);
  bool news = !delta.text().empty();
  if (format_.chat) {
    if (news) choice["delta"]["content"] = delta.text();
    if (auto calls = ParseArray(delta.tool_calls_json()); calls.is_array()) {
      choice["delta"]["tool_calls"] = std::move(calls);
      news = true;
    }
  } else {
    choice["text"] = delta.text();
  }
  if (format_.logprobs.has_value() && delta.logprobs_size() > 0) {
    news = true;
    if (format_.chat) {
      ordered_json content = ordered_json::array();
      AppendChatLogprobs(delta.logprobs(), *format_.logprobs, content);
      choice["logprobs"]["content"] = std::move(content);
      choice["logprobs"]["refusal"] = nullptr;
    } else {
      CompletionLogprobs& logprobs =
          logprobs_[static_cast<size_t>(delta.index())];
      logprobs.Append(delta.logprobs(), *format_.logprobs, false);
      choice["logprobs"] = logprobs.Take();
    }
  }
  return news ? Send(std::move(choice)) : "";
}

std::string AnswerStream::Last(const Event::Finished& finished) {
  if (!InRange(finished.index(), format_.n)) return "";
  finished_[static_cast<size_t>(finished.index())] = true;
  ordered_json choice = ChunkChoice(finished.index(), format_.chat);
  choice["finish_reason"] = finished.reason();
  return Send(std::move(choice));
}

absl::StatusOr<std::string> AnswerStream::End() {
  RETURN_IF_ERROR(CheckComplete(
      std::find(finished_.begin(), finished_.end(), false) == finished_.end(),
      usage_.has_value()));
  std::string out;
  if (format_.include_usage) {
    ordered_json chunk = Chunk();
    chunk["choices"] = ordered_json::array();
    chunk["usage"] = UsageJson(*usage_);
    out = Sse(chunk);
  }
  return out + "data: [DONE]\n\n";
}

std::string AnswerStream::Error(const absl::Status& status) {
  return "data: " + ErrorBody(ToApiError(status)) + "\n\n";
}

AnswerBody::AnswerBody(AnswerFormat format)
    : format_(std::move(format)), answers_(static_cast<size_t>(format_.n)) {}

void AnswerBody::OnEvent(const Event& event) {
  if (event.has_usage()) usage_ = event.usage();
  if (event.has_started()) {
    started_ = event.started();
    for (Answer& answer : answers_) {
      if (!format_.echo) break;
      answer.text = started_.prompt_text();
      answer.completion_logprobs.Append(started_.prompt_logprobs(),
                                        format_.logprobs.value_or(0), true);
    }
  }
  if (event.has_finished() && InRange(event.finished().index(), format_.n)) {
    answers_[static_cast<size_t>(event.finished().index())].reason =
        event.finished().reason();
  }
  if (!event.has_delta() || !InRange(event.delta().index(), format_.n)) return;
  const Event::Delta& delta = event.delta();
  Answer& answer = answers_[static_cast<size_t>(delta.index())];
  answer.text += delta.text();
  if (!delta.tool_calls_json().empty()) {
    MergeToolCalls(delta.tool_calls_json(), answer.tool_calls);
  }
  if (!format_.logprobs.has_value()) return;
  if (format_.chat) {
    AppendChatLogprobs(delta.logprobs(), *format_.logprobs,
                       answer.chat_logprobs);
  } else {
    answer.completion_logprobs.Append(delta.logprobs(), *format_.logprobs,
                                      false);
  }
}

ordered_json AnswerBody::Choice(Answer& answer, int index) const {
  ordered_json choice;
  choice["index"] = index;
  if (format_.chat) {
    ordered_json& message = choice["message"];
    message["role"] = "assistant";
    // A call without words has null content, as OpenAI's.
    message["content"] = answer.text.empty() && !answer.tool_calls.empty()
                             ? ordered_json(nullptr)
                             : ordered_json(answer.text);
    message["refusal"] = nullptr;
    if (!answer.tool_calls.empty()) {
      message["tool_calls"] = std::move(answer.tool_calls);
    }
    choice["logprobs"] = nullptr;
    if (format_.logprobs.has_value()) {
      choice["logprobs"]["content"] = std::move(answer.chat_logprobs);
      choice["logprobs"]["refusal"] = nullptr;
    }
  } else {
    choice["text"] = answer.text;
    choice["logprobs"] = format_.logprobs.has_value()
                             ? answer.completion_logprobs.Take()
                             : ordered_json(nullptr);
  }
  choice["finish_reason"] = answer.reason;
  return choice;
}

absl::StatusOr<std::string> AnswerBody::End() {
  const bool finished =
      std::none_of(answers_.begin(), answers_.end(),
                   [](const Answer& a) { return a.reason.empty(); });
  RETURN_IF_ERROR(CheckComplete(finished, usage_.has_value()));
  ordered_json body = AnswerEnvelope(format_, /*chunk=*/false, started_);
  body["choices"] = ordered_json::array();
  for (int i = 0; i < format_.n; ++i) {
    body["choices"].push_back(Choice(answers_[static_cast<size_t>(i)], i));
  }
  body["usage"] = UsageJson(*usage_);
  return Dump(body);
}

std::string EmbeddingsBody(const v1::EmbedResponse& response, bool base64) {
  ordered_json body;
  body["object"] = "list";
  body["data"] = ordered_json::array();
  for (int i = 0; i < response.embeddings_size(); ++i) {
    const auto& values = response.embeddings(i).values();
    ordered_json one;
    one["object"] = "embedding";
    one["index"] = i;
    if (base64) {
      // OpenAI's base64 is of little-endian float32.
      static_assert(std::endian::native == std::endian::little);
      std::string bytes(static_cast<size_t>(values.size()) * sizeof(float),
                        '\0');
      std::memcpy(bytes.data(), values.data(), bytes.size());
      one["embedding"] = absl::Base64Escape(bytes);
    } else {
      one["embedding"] = ordered_json::array();
      for (float value : values) one["embedding"].push_back(value);
    }
    body["data"].push_back(std::move(one));
  }
  body["model"] = response.model();
  body["usage"]["prompt_tokens"] = response.prompt_tokens();
  body["usage"]["total_tokens"] = response.prompt_tokens();
  return Dump(body);
}

void MergeToolCalls(std::string_view delta_json, ordered_json& calls) {
  constexpr size_t kMaxCalls = 128;
  const ordered_json delta = ParseArray(delta_json);
  for (const ordered_json& piece : delta) {
    if (!piece.is_object()) continue;
    const auto index = piece.value("/index"_json_pointer, ordered_json(0u));
    if (!index.is_number_unsigned() || index.get<size_t>() >= kMaxCalls) {
      continue;
    }
    while (calls.size() <= index.get<size_t>()) {
      calls.push_back({{"id", ""},
                       {"type", "function"},
                       {"function", {{"name", ""}, {"arguments", ""}}}});
    }
    ordered_json& call = calls[index.get<size_t>()];
    const auto text = [&piece](const char* pointer) -> std::string {
      const ordered_json::json_pointer at(pointer);
      if (!piece.contains(at) || !piece.at(at).is_string()) return "";
      return piece.at(at).get<std::string>();
    };
    if (std::string id = text("/id"); !id.empty()) call["id"] = id;
    ordered_json& function = call["function"];
    for (const char* field : {"name", "arguments"}) {
      function[field].get_ref<std::string&>() +=
          text((std::string("/function/") + field).c_str());
    }
  }
}

}  // namespace conclave::gateway
