#include "router_service/prompt/prompt_chain.h"

#include <algorithm>

namespace conclave::router {
namespace {

std::string Arrows(const std::vector<std::string>& experts) {
  std::string text;
  for (const std::string& expert : experts) {
    if (!text.empty()) text += " -> ";
    text += expert;
  }
  return text;
}

void AppendParagraph(std::string* text, std::string_view paragraph) {
  if (paragraph.empty()) return;
  if (!text->empty()) *text += "\n\n";
  *text += paragraph;
}

}  // namespace

absl::StatusOr<PromptChain> ResolvePromptChain(std::string_view expert,
                                               const LinkLookup& lookup) {
  PromptChain chain;
  std::string next(expert);
  while (true) {
    const bool seen = std::find(chain.experts.begin(), chain.experts.end(),
                                next) != chain.experts.end();
    chain.experts.push_back(next);
    if (seen) {
      return FailedPrecondition("experts are based on each other: {}",
                                Arrows(chain.experts));
    }
    const std::optional<PromptLink> link = lookup(next);
    if (!link.has_value()) {
      return NotFound("expert {} is not there{}", next,
                      chain.experts.size() == 1
                          ? std::string()
                          : " (" + Arrows(chain.experts) + ")");
    }
    if (link->base.empty()) break;
    if (chain.experts.size() > kMaxPromptDepth) {
      return FailedPrecondition(
          "more than {} prompt experts on top of each other: {}",
          kMaxPromptDepth, Arrows(chain.experts));
    }
    if (!link->prompt.empty()) {
      chain.prompts.insert(chain.prompts.begin(), link->prompt);
    }
    next = link->base;
  }
  chain.answers = std::move(next);
  return chain;
}

v1::ChatPrompt WrapChat(const PromptChain& chain, const v1::ChatPrompt& chat) {
  if (chain.prompts.empty()) return chat;
  std::string system;
  for (const std::string& prompt : chain.prompts) {
    AppendParagraph(&system, prompt);
  }
  int first = 0;
  while (first < chat.messages_size() &&
         chat.messages(first).role() == "system") {
    AppendParagraph(&system, chat.messages(first).content());
    ++first;
  }
  v1::ChatPrompt wrapped;
  wrapped.set_tools_json(chat.tools_json());
  v1::ChatMessage* message = wrapped.add_messages();
  message->set_role("system");
  message->set_content(std::move(system));
  for (int i = first; i < chat.messages_size(); ++i) {
    *wrapped.add_messages() = chat.messages(i);
  }
  return wrapped;
}

std::string WrapText(const PromptChain& chain, std::string_view text) {
  std::string wrapped;
  for (const std::string& prompt : chain.prompts) {
    AppendParagraph(&wrapped, prompt);
  }
  AppendParagraph(&wrapped, text);
  return wrapped;
}

}  // namespace conclave::router
