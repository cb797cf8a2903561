// Log probabilities in OpenAI's two shapes.
//
// A token that is not whole UTF-8 by itself is shown as OpenAI shows it,
// "bytes:\xe2\x80"; chat entries carry the exact bytes besides.
#ifndef CONCLAVE_ROUTER_SERVICE_GATEWAY_LOGPROBS_JSON_H_
#define CONCLAVE_ROUTER_SERVICE_GATEWAY_LOGPROBS_JSON_H_

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "conclave/v1/common.pb.h"

namespace conclave::gateway {

using TokenLogprobs = google::protobuf::RepeatedPtrField<v1::TokenLogprob>;

// Appends {token, logprob, bytes, top_logprobs: [{token, logprob, bytes}]} for
// each to `content`, an array. `top_n` cuts the alternatives.
void AppendChatLogprobs(const TokenLogprobs& tokens, int top_n,
                        nlohmann::ordered_json& content);

// The plain-completions shape, filled piece by piece.
class CompletionLogprobs {
 public:
  CompletionLogprobs();
  // `first_unknown`: the first token has no logprob (an echoed prompt's
  // first), which is null. The chosen token is always among the alternatives.
  void Append(const TokenLogprobs& tokens, int top_n, bool first_unknown);
  // {tokens, token_logprobs, top_logprobs, text_offset} of what was appended
  // since the last call; offsets (in characters) go on counting.
  nlohmann::ordered_json Take();

 private:
  nlohmann::ordered_json value_;
  int64_t offset_ = 0;
};

// The token as text, see above.
std::string TokenText(std::string_view bytes);
// Is it whole, well-formed UTF-8?
bool IsUtf8(std::string_view bytes);

}  // namespace conclave::gateway

#endif  // CONCLAVE_ROUTER_SERVICE_GATEWAY_LOGPROBS_JSON_H_
