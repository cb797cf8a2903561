#include "expert_workers/weights/hf_tokenizer.h"

#include <vector>

#include "expert_workers/weights/hf_sentencepiece.h"
#include "expert_workers/weights/sentencepiece_file.h"
#include "expert_workers/weights/tokenizer_facts.h"

namespace conclave::weights {
namespace {

absl::StatusOr<std::string> TypeOf(const Json& object) {
  ASSIGN_OR_RETURN(auto type, TextMember(object, "type"));
  return type.value_or("");
}

struct AddedToken {
  std::string text;
  Json id;
  TokenType type;
};

absl::StatusOr<AddedToken> AddedTokenOf(const Json& token, const Json& id) {
  ASSIGN_OR_RETURN(auto text, TextMember(token, "content"));
  ASSIGN_OR_RETURN(const auto special, BoolMember(token, "special"));
  if (!text) return InvalidArgument("an added token has no content");
  return AddedToken{
      *std::move(text), id,
      special.value_or(false) ? TokenType::kControl : TokenType::kUserDefined};
}

// "added_tokens" of tokenizer.json.
absl::StatusOr<std::vector<AddedToken>> AddedTokens(const Json& json) {
  std::vector<AddedToken> tokens;
  const Json* added = Member(json, "added_tokens");
  if (added == nullptr) return tokens;
  if (!added->is_array()) {
    return InvalidArgument("\"added_tokens\" is not a list");
  }
  for (const Json& token : *added) {
    const Json* id = Member(token, "id");
    if (id == nullptr) return InvalidArgument("an added token has no id");
    ASSIGN_OR_RETURN(AddedToken read, AddedTokenOf(token, *id));
    tokens.push_back(std::move(read));
  }
  return tokens;
}

absl::Status Place(const std::string& text, const Json& id, TokenType type,
                   std::vector<bool>* placed, TokenizerSpec* tokenizer) {
  if (!id.is_number_unsigned() ||
      id.get<uint64_t>() >= tokenizer->tokens.size()) {
    return InvalidArgument(
        "token \"{}\" has an id outside the vocabulary of {}",
        text.substr(0, 64), tokenizer->tokens.size());
  }
  const auto at = id.get<uint64_t>();
  // An added token may repeat one of the vocabulary, to change its type.
  if ((*placed)[at] && tokenizer->tokens[at] != text) {
    return InvalidArgument("id {} is both \"{}\" and \"{}\"", at,
                           tokenizer->tokens[at].substr(0, 64),
                           text.substr(0, 64));
  }
  (*placed)[at] = true;
  tokenizer->tokens[at] = text;
  tokenizer->types[at] = type;
  return absl::OkStatus();
}

absl::Status ReadTokens(const Json& json, const Json& model, int64_t vocab_size,
                        TokenizerSpec* tokenizer) {
  const Json* vocab = Member(model, "vocab");
  if (vocab == nullptr || !vocab->is_object()) {
    return InvalidArgument("\"vocab\" is not an object");
  }
  tokenizer->tokens.resize(static_cast<size_t>(vocab_size));
  tokenizer->types.assign(tokenizer->tokens.size(), TokenType::kNormal);
  std::vector<bool> placed(tokenizer->tokens.size());
  for (const auto& [text, id] : vocab->items()) {
    RETURN_IF_ERROR(Place(text, id, TokenType::kNormal, &placed, tokenizer));
  }
  ASSIGN_OR_RETURN(const std::vector<AddedToken> added, AddedTokens(json));
  for (const AddedToken& token : added) {
    RETURN_IF_ERROR(
        Place(token.text, token.id, token.type, &placed, tokenizer));
  }
  for (size_t id = 0; id < placed.size(); ++id) {
    if (placed[id]) continue;
    tokenizer->tokens[id] = fmt::format("[PAD{}]", id);
    tokenizer->types[id] = TokenType::kUnused;
  }
  return absl::OkStatus();
}

// The pre-tokenizers of the four rules:
//   ByteLevel                                   gpt2
//   Digits(individual), ByteLevel               smollm
//   Split(regex), ByteLevel(use_regex: false)   qwen2, llama-bpe, gpt2
absl::StatusOr<std::string> SplitRuleOf(const Json& json) {
  const auto unknown = [] {
    return Unimplemented(
        "tokenizer.json splits text in a way that is not supported; supported "
        "are the rules smollm, qwen2, llama-bpe, gpt2");
  };
  const Json* pre = Member(json, "pre_tokenizer");
  if (pre == nullptr) return unknown();
  std::vector<const Json*> steps;
  ASSIGN_OR_RETURN(const std::string type, TypeOf(*pre));
  const Json* sequence = Member(*pre, "pretokenizers");
  if (type == "Sequence" && sequence != nullptr && sequence->is_array()) {
    for (const Json& step : *sequence) steps.push_back(&step);
  } else {
    steps.push_back(pre);
  }
  if (steps.empty() || steps.size() > 2) return unknown();
  ASSIGN_OR_RETURN(const std::string last, TypeOf(*steps.back()));
  ASSIGN_OR_RETURN(const auto prefix_space,
                   BoolMember(*steps.back(), "add_prefix_space"));
  if (last != "ByteLevel" || prefix_space.value_or(false)) return unknown();
  ASSIGN_OR_RETURN(const auto use_regex,
                   BoolMember(*steps.back(), "use_regex"));
  if (steps.size() == 1) {
    if (!use_regex.value_or(true)) return unknown();
    return std::string("gpt2");
  }
  ASSIGN_OR_RETURN(const std::string first, TypeOf(*steps.front()));
  if (first == "Digits") {
    ASSIGN_OR_RETURN(const auto individual,
                     BoolMember(*steps.front(), "individual_digits"));
    if (!individual.value_or(false) || !use_regex.value_or(true)) {
      return unknown();
    }
    return std::string("smollm");
  }
  const Json* pattern = Member(*steps.front(), "pattern");
  if (first != "Split" || pattern == nullptr || use_regex.value_or(true)) {
    return unknown();
  }
  ASSIGN_OR_RETURN(const auto regex, TextMember(*pattern, "Regex"));
  ASSIGN_OR_RETURN(const auto behavior, TextMember(*steps.front(), "behavior"));
  ASSIGN_OR_RETURN(const auto invert, BoolMember(*steps.front(), "invert"));
  if (!regex || behavior.value_or("Isolated") != "Isolated" ||
      invert.value_or(false)) {
    return unknown();
  }
  return SplitRuleOfRegex(*regex);
}

// A special token of tokenizer_config.json: its text, or an object with it.
absl::StatusOr<int32_t> SpecialId(const Json& settings, std::string_view key,
                                  const TokenizerSpec& tokenizer) {
  const Json* value = Member(settings, key);
  if (value == nullptr) return -1;
  if (value->is_object()) value = Member(*value, "content");
  if (value == nullptr || !value->is_string()) {
    return InvalidArgument("\"{}\" is not a token", key);
  }
  const auto text = value->get<std::string>();
  const int32_t id = FindToken(tokenizer, text);
  if (id < 0) {
    return InvalidArgument("\"{}\" is \"{}\", which is not in the vocabulary",
                           key, text.substr(0, 64));
  }
  return id;
}

// Whether the post-processor puts BOS in front.
bool TemplateAddsBos(const Json& json, const TokenizerSpec& tokenizer) {
  const Json* post = Member(json, "post_processor");
  if (post == nullptr || tokenizer.bos_id < 0) return false;
  std::vector<const Json*> steps = {post};
  if (const Json* list = Member(*post, "processors");
      list != nullptr && list->is_array()) {
    for (const Json& step : *list) steps.push_back(&step);
  }
  for (const Json* step : steps) {
    const Json* single = Member(*step, "single");
    if (single == nullptr || !single->is_array() || single->empty()) continue;
    const Json* token = Member(single->front(), "SpecialToken");
    if (token == nullptr) continue;
    const Json* id = Member(*token, "id");
    if (id != nullptr && id->is_string() &&
        id->get<std::string>() ==
            tokenizer.tokens[static_cast<size_t>(tokenizer.bos_id)]) {
      return true;
    }
  }
  return false;
}

absl::Status ReadWordPiece(const Json& json, const Json& model,
                           TokenizerSpec* tokenizer) {
  tokenizer->kind = TokenizerKind::kWordPiece;
  ASSIGN_OR_RETURN(const auto prefix,
                   TextMember(model, "continuing_subword_prefix"));
  if (prefix.value_or("##") != "##") {
    return Unimplemented("WordPiece with the prefix \"{}\"; only \"##\"",
                         prefix->substr(0, 16));
  }
  const Json* normalizer = Member(json, "normalizer");
  if (normalizer != nullptr) {
    ASSIGN_OR_RETURN(const auto lowercase,
                     BoolMember(*normalizer, "lowercase"));
    tokenizer->lowercase = lowercase.value_or(false);
  }
  return absl::OkStatus();
}

absl::Status ReadSpecials(const Json& settings, TokenizerSpec* tokenizer) {
  const struct {
    std::string_view key;
    int32_t* id;
  } specials[] = {
      {"bos_token", &tokenizer->bos_id}, {"eos_token", &tokenizer->eos_id},
      {"unk_token", &tokenizer->unk_id}, {"pad_token", &tokenizer->pad_id},
      {"cls_token", &tokenizer->cls_id}, {"sep_token", &tokenizer->sep_id},
  };
  for (const auto& [key, id] : specials) {
    // A SentencePiece file has said them before.
    if (*id >= 0 && Member(settings, key) == nullptr) continue;
    ASSIGN_OR_RETURN(*id, SpecialId(settings, key, *tokenizer));
  }
  if (tokenizer->kind != TokenizerKind::kWordPiece) return absl::OkStatus();
  // BERT's own names, where no settings say otherwise.
  const struct {
    std::string_view text;
    int32_t* id;
  } usual[] = {{"[UNK]", &tokenizer->unk_id},
               {"[PAD]", &tokenizer->pad_id},
               {"[CLS]", &tokenizer->cls_id},
               {"[SEP]", &tokenizer->sep_id}};
  for (const auto& [text, id] : usual) {
    if (*id < 0) *id = FindToken(*tokenizer, text);
    if (*id < 0) return InvalidArgument("the vocabulary has no {}", text);
  }
  return absl::OkStatus();
}

// A token added to a SentencePiece file's: a new one, or another role for one
// that is there. A piece of text keeps its text.
absl::Status Replace(const AddedToken& token, TokenizerSpec* tokenizer) {
  if (!token.id.is_number_unsigned() ||
      token.id.get<uint64_t>() >= tokenizer->tokens.size()) {
    return InvalidArgument(
        "token \"{}\" has an id outside the vocabulary of {}",
        token.text.substr(0, 64), tokenizer->tokens.size());
  }
  const auto at = token.id.get<uint64_t>();
  const TokenType type = tokenizer->types[at];
  const bool is_text = type == TokenType::kNormal || type == TokenType::kByte;
  if (is_text && tokenizer->tokens[at] != token.text) {
    return InvalidArgument("id {} is both \"{}\" and \"{}\"", at,
                           tokenizer->tokens[at].substr(0, 64),
                           token.text.substr(0, 64));
  }
  tokenizer->tokens[at] = token.text;
  tokenizer->types[at] = token.type;
  return absl::OkStatus();
}

absl::Status Finish(const Json& settings, bool adds_bos,
                    TokenizerSpec* tokenizer) {
  ASSIGN_OR_RETURN(const auto add_bos, BoolMember(settings, "add_bos_token"));
  tokenizer->add_bos = tokenizer->bos_id >= 0 && add_bos.value_or(adds_bos);
  AddEndOfTurnIds(tokenizer);
  return CheckTokenizer(*tokenizer);
}

}  // namespace

absl::StatusOr<TokenizerSpec> ReadHfTokenizer(const Json& json,
                                              const Json& settings,
                                              int64_t vocab_size) {
  TokenizerSpec tokenizer;
  const Json* model = Member(json, "model");
  if (model == nullptr) return InvalidArgument("\"model\" is missing");
  RETURN_IF_ERROR(ReadTokens(json, *model, vocab_size, &tokenizer));
  ASSIGN_OR_RETURN(const std::string type, TypeOf(*model));
  if (type == "BPE" && IsSentencePieceJson(json)) {
    RETURN_IF_ERROR(ReadSentencePieceJson(json, &tokenizer));
  } else if (type == "BPE") {
    tokenizer.kind = TokenizerKind::kByteLevelBpe;
    ASSIGN_OR_RETURN(tokenizer.pre, SplitRuleOf(json));
    ASSIGN_OR_RETURN(tokenizer.merges, ReadMerges(*model));
  } else if (type == "WordPiece") {
    RETURN_IF_ERROR(ReadWordPiece(json, *model, &tokenizer));
  } else {
    return Unimplemented(
        "tokenizer model \"{}\"; supported are BPE and WordPiece",
        type.substr(0, 64));
  }
  RETURN_IF_ERROR(ReadSpecials(settings, &tokenizer));
  RETURN_IF_ERROR(
      Finish(settings, TemplateAddsBos(json, tokenizer), &tokenizer));
  return tokenizer;
}

absl::StatusOr<TokenizerSpec> ReadHfSentencePiece(std::string_view file,
                                                  const Json& json,
                                                  const Json& settings,
                                                  int64_t vocab_size) {
  ASSIGN_OR_RETURN(TokenizerSpec tokenizer,
                   ReadSentencePieceFile(file, vocab_size));
  ASSIGN_OR_RETURN(std::vector<AddedToken> added, AddedTokens(json));
  // "added_tokens_decoder" of tokenizer_config.json says the same by id.
  const Json* by_id = Member(settings, "added_tokens_decoder");
  if (by_id != nullptr && by_id->is_object()) {
    for (const auto& [id, token] : by_id->items()) {
      ASSIGN_OR_RETURN(AddedToken read,
                       AddedTokenOf(token, Json::parse(id, nullptr, false)));
      added.push_back(std::move(read));
    }
  }
  for (const AddedToken& token : added) {
    RETURN_IF_ERROR(Replace(token, &tokenizer));
  }
  RETURN_IF_ERROR(ReadSpecials(settings, &tokenizer));
  const bool adds_bos =
      !json.contains("post_processor") || TemplateAddsBos(json, tokenizer);
  RETURN_IF_ERROR(Finish(settings, adds_bos, &tokenizer));
  return tokenizer;
}

absl::StatusOr<std::vector<std::string>> ReadMerges(const Json& model) {
  const Json* merges = Member(model, "merges");
  if (merges == nullptr || !merges->is_array()) {
    return InvalidArgument("\"merges\" is not a list");
  }
  std::vector<std::string> lines;
  for (const Json& merge : *merges) {
    if (merge.is_string()) {
      lines.push_back(merge.get<std::string>());
    } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() &&
               merge[1].is_string()) {
      lines.push_back(merge[0].get<std::string>() + " " +
                      merge[1].get<std::string>());
    } else {
      return InvalidArgument("a merge is neither \"a b\" nor [\"a\", \"b\"]");
    }
  }
  return lines;
}

std::string ChatTemplateOf(const Json& settings) {
  const Json* value = Member(settings, "chat_template");
  if (value == nullptr) return "";
  if (value->is_string()) return value->get<std::string>();
  if (!value->is_array()) return "";
  for (const Json& entry : *value) {
    const auto name = TextMember(entry, "name");
    const auto text = TextMember(entry, "template");
    if (name.ok() && text.ok() && *name == "default" && text->has_value()) {
      return **text;
    }
  }
  return "";
}

}  // namespace conclave::weights
