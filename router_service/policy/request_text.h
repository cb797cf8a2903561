// Which text of a request the classifier reads, and how much each piece counts.
//
//   the last message of role "user"   weight 1
//   the user message before it        weight 0.5 * s
//   leading system messages           weight 0.2 * s
//   s = max(0, 1 - words in the last message / 16)
//
// "and in Rust?" needs what was asked before; a question of a paragraph does
// not, and a long system prompt must not outshout it. Answers of assistants and
// tools are not read: they say what was answered, not what is wanted.
// Without a user message the last message that has text counts alone; a plain
// prompt counts as it stands.
#ifndef CONCLAVE_ROUTER_SERVICE_POLICY_REQUEST_TEXT_H_
#define CONCLAVE_ROUTER_SERVICE_POLICY_REQUEST_TEXT_H_

#include <string>
#include <string_view>
#include <vector>

#include "conclave/v1/common.pb.h"
#include "router_service/classify/classifier.h"

namespace conclave::router {

// Views into `chat`. Empty when no message has visible text.
std::vector<TextPart> PartsOfChat(const v1::ChatPrompt& chat);
// One part, or none when nothing is visible.
std::vector<TextPart> PartsOfText(std::string_view text);

// What the encoder reads of a text longer than `max_bytes`: its beginning and
// its end, cut between characters, with " ... " between. The fast tier has read
// all of it; an encoder would take seconds for 8K tokens.
std::string EndsOfText(std::string_view text, size_t max_bytes);

}  // namespace conclave::router

#endif  // CONCLAVE_ROUTER_SERVICE_POLICY_REQUEST_TEXT_H_
