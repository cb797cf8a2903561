// The `messages` and `tools` of a chat body.
#ifndef CONCLAVE_ROUTER_SERVICE_GATEWAY_CHAT_MESSAGES_H_
#define CONCLAVE_ROUTER_SERVICE_GATEWAY_CHAT_MESSAGES_H_

#include <nlohmann/json.hpp>

#include "base/status.h"
#include "conclave/v1/common.pb.h"

namespace conclave::gateway {

// Roles system, developer (read as system), user, assistant, tool. Content is
// a string or an array of text parts, joined by newlines as vLLM does; images
// and audio are refused. Errors name the field ("messages[2].content").
absl::Status ReadMessages(const nlohmann::json& body, v1::ChatPrompt& chat);

// `tools` and `tool_choice`. "none" drops the tools, "auto" keeps them; a
// forced call is refused, since nothing here could force it.
absl::Status ReadTools(const nlohmann::json& body, v1::ChatPrompt& chat);

}  // namespace conclave::gateway

#endif  // CONCLAVE_ROUTER_SERVICE_GATEWAY_CHAT_MESSAGES_H_
