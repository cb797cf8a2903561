// A prompt expert names a base: another expert, perhaps a prompt expert too.
// The chain ends at an expert that answers by itself (a model or an endpoint).
#ifndef CONCLAVE_ROUTER_SERVICE_PROMPT_PROMPT_CHAIN_H_
#define CONCLAVE_ROUTER_SERVICE_PROMPT_PROMPT_CHAIN_H_

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "conclave/v1/common.pb.h"

namespace conclave::router {

// Prompt experts in one chain, the end not counted.
inline constexpr size_t kMaxPromptDepth = 4;

struct PromptLink {
  std::string base;  // empty: answers by itself
  std::string prompt;
};
// Nothing when no such expert is there.
using LinkLookup =
    std::function<std::optional<PromptLink>(std::string_view expert)>;

struct PromptChain {
  std::string answers;               // the expert at the end
  std::vector<std::string> experts;  // from the asked one to the end
  std::vector<std::string> prompts;  // nearest to `answers` first; none empty
};

//   NOT_FOUND           the expert, or a base; names the chain
//   FAILED_PRECONDITION  a cycle, or more than kMaxPromptDepth prompt experts
absl::StatusOr<PromptChain> ResolvePromptChain(std::string_view expert,
                                               const LinkLookup& lookup);

// One system message goes first:
//   the prompts, nearest to the answering expert first, then the text of the
//   request's own leading system messages, with a blank line between.
// So the more particular text stands later, and the caller's last. Names and
// later system messages stay where they are. Without prompts nothing changes.
v1::ChatPrompt WrapChat(const PromptChain& chain, const v1::ChatPrompt& chat);
// The prompts and then the text, with a blank line between.
std::string WrapText(const PromptChain& chain, std::string_view text);

}  // namespace conclave::router

#endif  // CONCLAVE_ROUTER_SERVICE_PROMPT_PROMPT_CHAIN_H_
