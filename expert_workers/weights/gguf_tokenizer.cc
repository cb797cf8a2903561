#include "expert_workers/weights/gguf_tokenizer.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "expert_workers/weights/tokenizer_facts.h"

namespace conclave::weights {
namespace {

absl::StatusOr<int32_t> ReadId(const GgufFile& file, std::string_view key) {
  ASSIGN_OR_RETURN(const auto id,
                   file.Int(fmt::format("tokenizer.ggml.{}", key)));
  if (!id) return -1;
  // 0xffffffff is how some writers say "none".
  if (*id == 0xffffffff) return -1;
  if (*id < 0 || *id > std::numeric_limits<int32_t>::max()) {
    return InvalidArgument("tokenizer.ggml.{} is {}", key, *id);
  }
  return static_cast<int32_t>(*id);
}

absl::Status ReadTypes(const GgufFile& file, TokenizerSpec* tokenizer) {
  tokenizer->types.assign(tokenizer->tokens.size(), TokenType::kNormal);
  ASSIGN_OR_RETURN(const GgufArray* types,
                   file.Array("tokenizer.ggml.token_type", GgufType::kInt32));
  if (types == nullptr) return absl::OkStatus();
  if (types->count != tokenizer->tokens.size()) {
    return InvalidArgument("{} tokens, but {} token types",
                           tokenizer->tokens.size(), types->count);
  }
  for (size_t i = 0; i < tokenizer->types.size(); ++i) {
    int32_t type = 0;
    std::memcpy(&type, types->raw.data() + i * sizeof type, sizeof type);
    if (type < 1 || type > 6) {
      return InvalidArgument("token {} has type {}; types are 1..6", i, type);
    }
    tokenizer->types[i] = static_cast<TokenType>(type);
  }
  return absl::OkStatus();
}

absl::Status ReadBpe(const GgufFile& file, TokenizerSpec* tokenizer) {
  tokenizer->kind = TokenizerKind::kByteLevelBpe;
  ASSIGN_OR_RETURN(const auto pre, file.Text("tokenizer.ggml.pre"));
  ASSIGN_OR_RETURN(tokenizer->pre, SplitRuleOfGguf(pre.value_or("")));
  ASSIGN_OR_RETURN(const GgufArray* merges,
                   file.Array("tokenizer.ggml.merges", GgufType::kString));
  if (merges == nullptr) {
    return InvalidArgument("key tokenizer.ggml.merges is missing");
  }
  tokenizer->merges = merges->strings;
  return absl::OkStatus();
}

absl::Status ReadSentencePiece(const GgufFile& file, TokenizerSpec* tokenizer) {
  tokenizer->kind = TokenizerKind::kSentencePiece;
  ASSIGN_OR_RETURN(const GgufArray* scores,
                   file.Array("tokenizer.ggml.scores", GgufType::kFloat32));
  if (scores == nullptr) {
    return InvalidArgument("key tokenizer.ggml.scores is missing");
  }
  if (scores->count != tokenizer->tokens.size()) {
    return InvalidArgument("{} tokens, but {} scores", tokenizer->tokens.size(),
                           scores->count);
  }
  tokenizer->scores.resize(tokenizer->tokens.size());
  std::memcpy(tokenizer->scores.data(), scores->raw.data(), scores->raw.size());
  if (file.metadata.contains("tokenizer.ggml.precompiled_charsmap")) {
    return Unimplemented(
        "the tokenizer has normalisation rules "
        "(precompiled_charsmap); they are not supported");
  }
  ASSIGN_OR_RETURN(const auto prefix,
                   file.Bool("tokenizer.ggml.add_space_prefix"));
  tokenizer->add_space_prefix = prefix.value_or(true);
  ASSIGN_OR_RETURN(const auto extra,
                   file.Bool("tokenizer.ggml.remove_extra_whitespaces"));
  tokenizer->remove_extra_spaces = extra.value_or(false);
  return absl::OkStatus();
}

// Where a file does not say them: the unknown token by its type, the others
// where the format's own reader looks.
void AssumeUsualIds(TokenizerSpec* tokenizer) {
  const auto& types = tokenizer->types;
  if (tokenizer->unk_id < 0) {
    const auto unknown = std::ranges::find(types, TokenType::kUnknown);
    if (unknown != types.end()) {
      tokenizer->unk_id = static_cast<int32_t>(unknown - types.begin());
    }
  }
  const auto assume = [&types](int32_t usual, int32_t* id) {
    const auto at = static_cast<size_t>(usual);
    if (*id < 0 && at < types.size() && types[at] == TokenType::kControl) {
      *id = usual;
    }
  };
  assume(1, &tokenizer->bos_id);
  assume(2, &tokenizer->eos_id);
}

}  // namespace

absl::StatusOr<TokenizerSpec> ReadGgufTokenizer(const GgufFile& file) {
  TokenizerSpec tokenizer;
  ASSIGN_OR_RETURN(const auto model, file.Text("tokenizer.ggml.model"));
  ASSIGN_OR_RETURN(const GgufArray* tokens,
                   file.Array("tokenizer.ggml.tokens", GgufType::kString));
  if (!model || tokens == nullptr) {
    return InvalidArgument(
        "keys tokenizer.ggml.model and tokenizer.ggml.tokens are missing");
  }
  tokenizer.tokens = tokens->strings;
  RETURN_IF_ERROR(ReadTypes(file, &tokenizer));
  if (*model == "gpt2") {
    RETURN_IF_ERROR(ReadBpe(file, &tokenizer));
  } else if (*model == "llama") {
    RETURN_IF_ERROR(ReadSentencePiece(file, &tokenizer));
  } else {
    return Unimplemented(
        "tokenizer.ggml.model is \"{}\"; supported are gpt2 and llama",
        model->substr(0, 64));
  }
  ASSIGN_OR_RETURN(tokenizer.bos_id, ReadId(file, "bos_token_id"));
  ASSIGN_OR_RETURN(tokenizer.eos_id, ReadId(file, "eos_token_id"));
  ASSIGN_OR_RETURN(tokenizer.unk_id, ReadId(file, "unknown_token_id"));
  ASSIGN_OR_RETURN(tokenizer.pad_id, ReadId(file, "padding_token_id"));
  ASSIGN_OR_RETURN(tokenizer.cls_id, ReadId(file, "cls_token_id"));
  // The misspelling is the format's own.
  ASSIGN_OR_RETURN(tokenizer.sep_id, ReadId(file, "seperator_token_id"));
  if (tokenizer.kind == TokenizerKind::kSentencePiece) {
    AssumeUsualIds(&tokenizer);
  }
  ASSIGN_OR_RETURN(const int32_t end_of_turn, ReadId(file, "eot_token_id"));
  ASSIGN_OR_RETURN(const int32_t end_of_message, ReadId(file, "eom_token_id"));
  tokenizer.end_of_turn_ids = {end_of_turn, end_of_message};
  AddEndOfTurnIds(&tokenizer);
  ASSIGN_OR_RETURN(const auto add_bos,
                   file.Bool("tokenizer.ggml.add_bos_token"));
  // What the format's own reader assumes where the key is absent.
  const bool usual = tokenizer.kind == TokenizerKind::kSentencePiece ||
                     tokenizer.pre == "llama-bpe";
  tokenizer.add_bos = add_bos.value_or(usual) && tokenizer.bos_id >= 0;
  RETURN_IF_ERROR(CheckTokenizer(tokenizer));
  return tokenizer;
}

}  // namespace conclave::weights
