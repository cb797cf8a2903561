// A model's chat template: a conversation in, the prompt as pieces out. The
// model's own Jinja runs in a small interpreter with limits; see README.md for
// what of Jinja it knows.
//
// What the template itself wrote is trusted, what came from messages and
// tools is not: the tokenizer recognises control tokens in the former alone.
// The one exception is a message's role when it is one of the known names
// (system, user, assistant, tool, ...): templates build control strings of it.
#ifndef CONCLAVE_EXPERT_WORKERS_TEMPLATE_CHAT_TEMPLATE_H_
#define CONCLAVE_EXPERT_WORKERS_TEMPLATE_CHAT_TEMPLATE_H_

#include <absl/time/time.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "expert_workers/template/ast.h"
#include "expert_workers/tokenizer/piece.h"

namespace conclave::engine {

class Tokenizer;

struct ChatInput {
  // [{"role": ..., "content": ...}, ...], in order.
  nlohmann::ordered_json messages = nlohmann::ordered_json::array();
  // The request's tools, or null.
  nlohmann::ordered_json tools;
  // Further variables of the template (documents, enable_thinking, ...): an
  // object, or null. They cannot replace the ones below.
  nlohmann::ordered_json variables;
  // End with what makes the model answer.
  bool add_generation_prompt = true;
  std::string bos_token;  // the texts of the model's own tokens
  std::string eos_token;
  // What strftime_now reads. No default: rendering depends on it.
  absl::Time now;
  absl::TimeZone zone = absl::UTCTimeZone();
};

// Immutable; any number of threads may render at once.
class ChatTemplate {
 public:
  static constexpr size_t kMaxSourceBytes = size_t{256} << 10;

  //   INVALID_ARGUMENT  not Jinja, or not the part of it that is known;
  //                     "line N: ..."
  static absl::StatusOr<std::unique_ptr<ChatTemplate>> Parse(
      std::string_view source);

  // A model's template; when it has none, ChatML if <|im_start|> is a control
  // token of the model, else plain "role: content" lines.
  static absl::StatusOr<std::unique_ptr<ChatTemplate>> ForModel(
      std::string_view source, const Tokenizer& tokenizer);

  // Neighbouring pieces differ in trust.
  //   INVALID_ARGUMENT     the template refused the conversation, with its
  //                        own message; messages is not an array of objects
  //   FAILED_PRECONDITION  the conversation lacks what the template reads
  //   RESOURCE_EXHAUSTED   more than 1e6 steps, 8 MB of output, 64 macros
  absl::StatusOr<std::vector<Piece>> Render(const ChatInput& input) const;

 private:
  explicit ChatTemplate(Body body) : body_(std::move(body)) {}

  Body body_;
};

// The pieces as one text: for logs and tests. Tokenise the pieces.
std::string JoinPieces(const std::vector<Piece>& pieces);

}  // namespace conclave::engine

#endif  // CONCLAVE_EXPERT_WORKERS_TEMPLATE_CHAT_TEMPLATE_H_
