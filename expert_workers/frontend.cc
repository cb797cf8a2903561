#include "expert_workers/frontend.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <span>

#include "base/clock.h"
#include "expert_workers/template/chat_template.h"

namespace conclave::workers {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kMaxJsonBytes = size_t{1} << 20;
// Deeper than any schema of a tool; a parser of ours recurses.
constexpr int kMaxJsonDepth = 64;

int Depth(std::string_view text) {
  int depth = 0;
  int deepest = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '[' || c == '{') {
      deepest = std::max(deepest, ++depth);
    } else if (c == ']' || c == '}') {
      --depth;
    }
  }
  return deepest;
}

absl::StatusOr<Json> ParseArray(const std::string& text, const char* what) {
  if (text.size() > kMaxJsonBytes || Depth(text) > kMaxJsonDepth) {
    return InvalidArgument("{} is larger than {} bytes or deeper than {}", what,
                           kMaxJsonBytes, kMaxJsonDepth);
  }
  Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_array()) return InvalidArgument("{} is no JSON array", what);
  return json;
}

// OpenAI sends a call's arguments as JSON in a string; templates of models
// want the object.
void OpenArguments(Json& tool_calls) {
  for (Json& call : tool_calls) {
    if (!call.is_object() || !call.contains("function")) continue;
    Json& function = call["function"];
    if (!function.is_object() || !function.contains("arguments")) continue;
    Json& arguments = function["arguments"];
    if (!arguments.is_string()) continue;
    const auto& text = arguments.get_ref<const std::string&>();
    if (Depth(text) > kMaxJsonDepth) continue;
    Json object = Json::parse(text, nullptr, false);
    if (object.is_object()) arguments = std::move(object);
  }
}

absl::StatusOr<Json> ToJson(const v1::ChatMessage& message) {
  Json json = {{"role", message.role()}, {"content", message.content()}};
  if (!message.name().empty()) json["name"] = message.name();
  if (!message.tool_call_id().empty()) {
    json["tool_call_id"] = message.tool_call_id();
  }
  if (!message.tool_calls_json().empty()) {
    ASSIGN_OR_RETURN(Json calls,
                     ParseArray(message.tool_calls_json(), "tool_calls"));
    OpenArguments(calls);
    json["tool_calls"] = std::move(calls);
  }
  return json;
}

class FrontendImpl final : public Frontend {
 public:
  FrontendImpl(std::shared_ptr<const weights::ModelManifest> manifest,
               std::shared_ptr<const engine::Tokenizer> tokenizer,
               std::unique_ptr<engine::ChatTemplate> chat_template)
      : manifest_(std::move(manifest)),
        tokenizer_(std::move(tokenizer)),
        template_(std::move(chat_template)) {}

  absl::StatusOr<Prompt> Build(
      const v1::WorkerGenerateRequest& request) const override {
    Prompt prompt;
    switch (request.prompt_case()) {
      case v1::WorkerGenerateRequest::kChat: {
        ASSIGN_OR_RETURN(prompt.tokens, BuildChat(request.chat()));
        break;
      }
      case v1::WorkerGenerateRequest::kText:
        prompt.tokens = tokenizer_->EncodeFramed(request.text());
        break;
      case v1::WorkerGenerateRequest::kTokens:
        RETURN_IF_ERROR(CheckIds(request.tokens()));
        prompt.tokens.assign(request.tokens().ids().begin(),
                             request.tokens().ids().end());
        break;
      case v1::WorkerGenerateRequest::PROMPT_NOT_SET:
        break;
    }
    if (prompt.tokens.empty()) {
      return InvalidArgument(
          "the prompt is empty; give chat messages, a text or token ids");
    }
    if (request.sampling().echo()) {
      prompt.text = tokenizer_->Decode(prompt.tokens);
    }
    return prompt;
  }

  std::shared_ptr<const engine::Tokenizer> tokenizer() const override {
    return tokenizer_;
  }
  const weights::ModelManifest& manifest() const override { return *manifest_; }

 private:
  absl::Status CheckIds(const v1::TokenIds& tokens) const {
    const int64_t vocab = std::min<int64_t>(
        tokenizer_->vocab_size(), manifest_->spec.hyperparameters.vocab_size);
    for (int i = 0; i < tokens.ids_size(); ++i) {
      if (tokens.ids(i) >= 0 && tokens.ids(i) < vocab) continue;
      return InvalidArgument("prompt token {} is {}; this model's are 0..{}", i,
                             tokens.ids(i), vocab - 1);
    }
    return absl::OkStatus();
  }

  absl::StatusOr<std::vector<int32_t>> BuildChat(
      const v1::ChatPrompt& chat) const {
    if (chat.messages().empty()) {
      return InvalidArgument("messages is empty; give at least one");
    }
    engine::ChatInput input;
    for (const v1::ChatMessage& message : chat.messages()) {
      ASSIGN_OR_RETURN(Json json, ToJson(message));
      input.messages.push_back(std::move(json));
    }
    if (!chat.tools_json().empty()) {
      ASSIGN_OR_RETURN(input.tools, ParseArray(chat.tools_json(), "tools"));
      if (input.tools.empty()) input.tools = nullptr;
    }
    const auto text = [this](int32_t id) {
      return id < 0 ? std::string() : std::string(tokenizer_->TokenBytes(id));
    };
    input.bos_token = text(tokenizer_->bos_id());
    input.eos_token = text(tokenizer_->eos_id());
    input.now = Clock::Real().Now();
    absl::StatusOr<std::vector<engine::Piece>> pieces =
        template_->Render(input);
    if (!pieces.ok()) return Refused(pieces.status());
    std::vector<int32_t> ids = tokenizer_->EncodePieces(*pieces);
    // Templates of some models write BOS themselves.
    const int32_t bos = tokenizer_->bos_id();
    if (tokenizer_->add_bos() && bos >= 0 &&
        (ids.empty() || ids.front() != bos)) {
      ids.insert(ids.begin(), bos);
    }
    return ids;
  }

  // Whatever the template did not like, it was the caller's conversation.
  static absl::Status Refused(const absl::Status& status) {
    return InvalidArgument("the model's chat template refused the messages: {}",
                           Message(status));
  }

  const std::shared_ptr<const weights::ModelManifest> manifest_;
  const std::shared_ptr<const engine::Tokenizer> tokenizer_;
  const std::unique_ptr<engine::ChatTemplate> template_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Frontend>> Frontend::Create(
    std::shared_ptr<const weights::ModelManifest> manifest) {
  const std::string context = fmt::format("model {}", manifest->version);
  auto tokenizer = engine::Tokenizer::Create(manifest->spec.tokenizer);
  if (!tokenizer.ok()) return Annotate(tokenizer.status(), context);
  std::shared_ptr<const engine::Tokenizer> shared =
      std::move(tokenizer).value();
  auto chat_template =
      engine::ChatTemplate::ForModel(manifest->spec.chat_template, *shared);
  if (!chat_template.ok()) return Annotate(chat_template.status(), context);
  return std::unique_ptr<Frontend>(
      std::make_unique<FrontendImpl>(std::move(manifest), std::move(shared),
                                     std::move(chat_template).value()));
}

}  // namespace conclave::workers
