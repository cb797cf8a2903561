#include "router_service/gateway/chat_messages.h"

#include <algorithm>
#include <string>
#include <string_view>

#include "router_service/gateway/json_fields.h"
#include "router_service/gateway/openai_error.h"

namespace conclave::gateway {
namespace {

using nlohmann::json;

constexpr size_t kMaxMessages = 4096;
constexpr size_t kMaxParts = 1024;
constexpr size_t kMaxTools = 128;
constexpr size_t kMaxToolCalls = 128;
constexpr size_t kMaxToolsBytes = 256 << 10;
constexpr size_t kMaxNameBytes = 64;
constexpr size_t kMaxIdBytes = 256;

// The last four come back from clients that echo our answers to us.
constexpr std::string_view kMessageFields[] = {
    "role",    "content",     "name",      "tool_calls",        "tool_call_id",
    "refusal", "annotations", "reasoning", "reasoning_content",
};
constexpr std::string_view kPartFields[] = {"type", "text"};

absl::StatusOr<std::string> ReadParts(const json& parts,
                                      const std::string& param) {
  if (parts.size() > kMaxParts) {
    return FieldError(param, "invalid_value",
                      "{} holds {} parts; at most {} are taken", param,
                      parts.size(), kMaxParts);
  }
  std::string joined;
  for (size_t i = 0; i < parts.size(); ++i) {
    const std::string here = fmt::format("{}[{}]", param, i);
    const json& part = parts[i];
    if (!part.is_object()) {
      return FieldError(here, "invalid_type", "{} must be an object, not {}",
                        here, TypeName(part));
    }
    ASSIGN_OR_RETURN(const std::optional<std::string> given,
                     ReadString(part, "type", here + ".type", kMaxNameBytes));
    const std::string type = given.value_or("");
    if (type != "text") {
      return FieldError(here + ".type", "unsupported_value",
                        "{}.type is \"{}\"; only \"text\" parts are supported",
                        here, type);
    }
    RETURN_IF_ERROR(RefuseUnknown(part, kPartFields, here + "."));
    const json* text = Find(part, "text");
    if (text == nullptr || !text->is_string()) {
      return FieldError(here + ".text", "invalid_type",
                        "{}.text must be a string", here);
    }
    if (i > 0) joined += '\n';
    joined += text->get_ref<const std::string&>();
  }
  return joined;
}

absl::StatusOr<std::string> ReadContent(const json& content,
                                        const std::string& param) {
  if (content.is_string()) return content.get<std::string>();
  if (content.is_array()) return ReadParts(content, param);
  return FieldError(param, "invalid_type",
                    "{} must be a string or an array of text parts, not {}",
                    param, TypeName(content));
}

// {"type": "function", "function": {"name": ..., `text_field`: string}}
absl::Status CheckFunction(const json& item, const std::string& param,
                           bool call) {
  if (!item.is_object()) {
    return FieldError(param, "invalid_type", "{} must be an object, not {}",
                      param, TypeName(item));
  }
  ASSIGN_OR_RETURN(const std::optional<std::string> type,
                   ReadString(item, "type", param + ".type", kMaxNameBytes));
  if (type != "function") {
    return FieldError(param + ".type", "unsupported_value",
                      "{}.type must be \"function\"", param);
  }
  const json* function = Find(item, "function");
  if (function == nullptr || !function->is_object()) {
    return FieldError(param + ".function", "invalid_type",
                      "{}.function must be an object", param);
  }
  const std::string here = param + ".function";
  ASSIGN_OR_RETURN(
      const std::optional<std::string> name,
      ReadString(*function, "name", here + ".name", kMaxNameBytes));
  const auto is_word = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           (c >= '0' && c <= '9') || c == '_' || c == '-' || c == '.';
  };
  if (!name.has_value() || name->empty() ||
      !std::all_of(name->begin(), name->end(), is_word)) {
    return FieldError(here + ".name", "invalid_value",
                      "{}.name must be 1..64 of a-z, A-Z, 0-9, '_', '-', '.'",
                      here);
  }
  if (call) {
    const json* arguments = Find(*function, "arguments");
    if (arguments == nullptr || !arguments->is_string()) {
      return FieldError(here + ".arguments", "invalid_type",
                        "{}.arguments must be a string of JSON", here);
    }
    return absl::OkStatus();
  }
  if (const json* d = Find(*function, "description");
      d != nullptr && !d->is_string()) {
    return FieldError(here + ".description", "invalid_type",
                      "{}.description must be a string", here);
  }
  if (const json* p = Find(*function, "parameters");
      p != nullptr && !p->is_object()) {
    return FieldError(here + ".parameters", "invalid_type",
                      "{}.parameters must be an object (JSON schema)", here);
  }
  if (const json* strict = Find(*function, "strict");
      strict != nullptr && *strict != json(false)) {
    return FieldError(here + ".strict", "unsupported_value",
                      "{}.strict is not supported: arguments are not "
                      "constrained to the schema",
                      here);
  }
  return absl::OkStatus();
}

absl::Status CheckFunctions(const json& items, const std::string& param,
                            size_t max_items, bool calls) {
  if (!items.is_array() || items.empty() || items.size() > max_items) {
    return FieldError(param,
                      items.is_array() ? "invalid_value" : "invalid_type",
                      "{} must be an array of 1..{}", param, max_items);
  }
  for (size_t i = 0; i < items.size(); ++i) {
    RETURN_IF_ERROR(
        CheckFunction(items[i], fmt::format("{}[{}]", param, i), calls));
  }
  return absl::OkStatus();
}

absl::Status ReadToolFields(const json& in, const std::string& here,
                            const std::string& role, v1::ChatMessage& out) {
  if (const json* calls = Find(in, "tool_calls"); calls != nullptr) {
    if (role != "assistant") {
      return FieldError(here + ".tool_calls", "invalid_value",
                        "{}.tool_calls belongs to an assistant message", here);
    }
    RETURN_IF_ERROR(CheckFunctions(*calls, here + ".tool_calls", kMaxToolCalls,
                                   /*calls=*/true));
    out.set_tool_calls_json(calls->dump());
  }
  ASSIGN_OR_RETURN(
      const std::optional<std::string> id,
      ReadString(in, "tool_call_id", here + ".tool_call_id", kMaxIdBytes));
  if ((role == "tool") != (id.has_value() && !id->empty())) {
    return FieldError(here + ".tool_call_id", "invalid_value",
                      "{}.tool_call_id must be given with role \"tool\", and "
                      "only there",
                      here);
  }
  if (id.has_value()) out.set_tool_call_id(*id);
  return absl::OkStatus();
}

absl::Status ReadMessage(const json& in, const std::string& here,
                         v1::ChatMessage& out) {
  if (!in.is_object()) {
    return FieldError(here, "invalid_type", "{} must be an object, not {}",
                      here, TypeName(in));
  }
  for (const auto& [name, value] : in.items()) {
    if (value.is_null()) continue;  // Echoed answers are full of nulls.
    RETURN_IF_ERROR(
        RefuseUnknown(json{{name, nullptr}}, kMessageFields, here + "."));
  }
  ASSIGN_OR_RETURN(std::optional<std::string> role,
                   ReadString(in, "role", here + ".role", kMaxNameBytes));
  if (role == "developer") role = "system";
  if (role != "system" && role != "user" && role != "assistant" &&
      role != "tool") {
    return FieldError(here + ".role", "invalid_value",
                      "{}.role is \"{}\"; it must be system, developer, user, "
                      "assistant or tool",
                      here, role.value_or(""));
  }
  out.set_role(*role);
  ASSIGN_OR_RETURN(const std::optional<std::string> name,
                   ReadString(in, "name", here + ".name", kMaxNameBytes));
  if (name.has_value()) out.set_name(*name);
  RETURN_IF_ERROR(ReadToolFields(in, here, *role, out));
  const json* content = Find(in, "content");
  if (content == nullptr) {
    if (!out.tool_calls_json().empty()) return absl::OkStatus();
    return FieldError(here + ".content", "missing_field",
                      "{}.content is missing", here);
  }
  ASSIGN_OR_RETURN(std::string text, ReadContent(*content, here + ".content"));
  out.set_content(std::move(text));
  return absl::OkStatus();
}

}  // namespace

absl::Status ReadMessages(const json& body, v1::ChatPrompt& chat) {
  const json* messages = Find(body, "messages");
  if (messages == nullptr) {
    return FieldError("messages", "missing_field", "messages is missing");
  }
  if (!messages->is_array()) {
    return FieldError("messages", "invalid_type",
                      "messages must be an array, not {}", TypeName(*messages));
  }
  if (messages->empty() || messages->size() > kMaxMessages) {
    return FieldError("messages", "invalid_value",
                      "messages must hold 1..{}, not {}", kMaxMessages,
                      messages->size());
  }
  for (size_t i = 0; i < messages->size(); ++i) {
    RETURN_IF_ERROR(ReadMessage((*messages)[i], fmt::format("messages[{}]", i),
                                *chat.add_messages()));
  }
  return absl::OkStatus();
}

absl::Status ReadTools(const json& body, v1::ChatPrompt& chat) {
  const json* tools = Find(body, "tools");
  const json* choice = Find(body, "tool_choice");
  if (choice != nullptr && *choice != json("auto") && *choice != json("none")) {
    return FieldError("tool_choice", "unsupported_value",
                      "tool_choice must be \"auto\" or \"none\": a call "
                      "cannot be forced");
  }
  if (tools == nullptr || (tools->is_array() && tools->empty())) {
    return absl::OkStatus();
  }
  RETURN_IF_ERROR(CheckFunctions(*tools, "tools", kMaxTools, /*calls=*/false));
  std::string text = tools->dump();
  if (text.size() > kMaxToolsBytes) {
    return FieldError("tools", "invalid_value",
                      "tools is {} bytes; at most {} are taken", text.size(),
                      kMaxToolsBytes);
  }
  if (choice == nullptr || *choice != json("none")) {
    chat.set_tools_json(std::move(text));
  }
  return absl::OkStatus();
}

}  // namespace conclave::gateway
