#include "expert_workers/template/chat_template.h"

#include <algorithm>

#include "expert_workers/template/interpreter.h"
#include "expert_workers/template/parser.h"
#include "expert_workers/tokenizer/tokenizer.h"

namespace conclave::engine {
namespace {

constexpr std::string_view kChatMl =
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message.role + '\\n' + message.content"
    " + '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}"
    "{% endif %}";

constexpr std::string_view kPlain =
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{{ message.role + ': ' + message.content + '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}";

constexpr std::string_view kRoles[] = {
    "system",  "user",   "assistant", "tool",  "developer",
    "ipython", "python", "function",  "model", "tool_response",
};

// A message with its role trusted, if it is a known one.
absl::StatusOr<Value> FromMessage(const nlohmann::ordered_json& message) {
  if (!message.is_object()) {
    return InvalidArgument("a message is an object, not {}",
                           message.type_name());
  }
  ASSIGN_OR_RETURN(const Value plain, Value::FromJson(message));
  Dict dict = plain.dict();
  if (const Value* role = dict.Find("role"); role && role->IsString()) {
    const std::string name = role->text().bytes();
    if (std::find(std::begin(kRoles), std::end(kRoles), name) !=
        std::end(kRoles)) {
      dict.Set(Value::Trusted("role"), Value::Trusted(name));
    }
  }
  return Value::MakeDict(std::move(dict));
}

absl::StatusOr<Value> FromMessages(const nlohmann::ordered_json& messages) {
  if (!messages.is_array()) {
    return InvalidArgument("messages is an array, not {}",
                           messages.type_name());
  }
  Values values;
  for (const auto& message : messages) {
    ASSIGN_OR_RETURN(Value value, FromMessage(message));
    values.push_back(std::move(value));
  }
  return Value::MakeList(std::move(values));
}

}  // namespace

absl::StatusOr<std::unique_ptr<ChatTemplate>> ChatTemplate::Parse(
    std::string_view source) {
  if (source.size() > kMaxSourceBytes) {
    return InvalidArgument("a chat template of {} bytes; at most {} are read",
                           source.size(), kMaxSourceBytes);
  }
  auto body = ParseTemplate(source);
  if (!body.ok()) return Annotate(body.status(), "chat template");
  return std::unique_ptr<ChatTemplate>(new ChatTemplate(*std::move(body)));
}

absl::StatusOr<std::unique_ptr<ChatTemplate>> ChatTemplate::ForModel(
    std::string_view source, const Tokenizer& tokenizer) {
  if (!source.empty()) return Parse(source);
  const auto start = tokenizer.FindToken("<|im_start|>");
  return Parse(start && tokenizer.IsControl(*start) ? kChatMl : kPlain);
}

absl::StatusOr<std::vector<Piece>> ChatTemplate::Render(
    const ChatInput& input) const {
  Interpreter interpreter({input.now, input.zone});
  if (!input.variables.is_null() && !input.variables.is_object()) {
    return InvalidArgument("template variables are an object, not {}",
                           input.variables.type_name());
  }
  for (const auto& [name, json] : input.variables.items()) {
    ASSIGN_OR_RETURN(Value value, Value::FromJson(json));
    interpreter.SetVariable(name, std::move(value));
  }
  ASSIGN_OR_RETURN(Value messages, FromMessages(input.messages));
  ASSIGN_OR_RETURN(Value tools, Value::FromJson(input.tools));
  interpreter.SetVariable("messages", std::move(messages));
  interpreter.SetVariable("tools", std::move(tools));
  interpreter.SetVariable("add_generation_prompt",
                          Value::Bool(input.add_generation_prompt));
  interpreter.SetVariable("bos_token", Value::Trusted(input.bos_token));
  interpreter.SetVariable("eos_token", Value::Trusted(input.eos_token));
  ASSIGN_OR_RETURN(const Text text, interpreter.Run(body_));
  return text.ToPieces();
}

std::string JoinPieces(const std::vector<Piece>& pieces) {
  std::string text;
  for (const Piece& piece : pieces) text += piece.text;
  return text;
}

}  // namespace conclave::engine
