#include "expert_workers/weights/hf_sentencepiece.h"

#include <map>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "expert_workers/weights/hf_tokenizer.h"
#include "expert_workers/weights/tokenizer_facts.h"

namespace conclave::weights {
namespace {

constexpr std::string_view kSpaceMark = "\xE2\x96\x81";
constexpr size_t kNumBytes = 256;
constexpr float kNoScore = -1e9f;  // after every merge

bool Says(const Json& object, std::string_view key, std::string_view value) {
  const Json* member = Member(object, key);
  return member != nullptr && member->is_string() &&
         member->get_ref<const std::string&>() == value;
}

// {"type": "Sequence", "<list>": [...]} as its steps; another as itself.
std::vector<const Json*> StepsOf(const Json* json, std::string_view list) {
  std::vector<const Json*> steps;
  if (json == nullptr) return steps;
  const Json* sequence = Member(*json, list);
  if (!Says(*json, "type", "Sequence") || sequence == nullptr ||
      !sequence->is_array()) {
    return {json};
  }
  for (const Json& step : *sequence) steps.push_back(&step);
  return steps;
}

bool MarksSpaces(const Json& step) {
  const Json* pattern = Member(step, "pattern");
  return Says(step, "type", "Replace") && pattern != nullptr &&
         Says(*pattern, "String", " ") && Says(step, "content", kSpaceMark);
}

absl::Status ReadNormalizer(const Json& tokenizer, TokenizerSpec* spec) {
  for (const Json* step :
       StepsOf(Member(tokenizer, "normalizer"), "normalizers")) {
    if (Says(*step, "type", "Prepend") && Says(*step, "prepend", kSpaceMark)) {
      spec->add_space_prefix = true;
    } else if (!MarksSpaces(*step)) {
      return Unimplemented(
          "tokenizer.json normalises text; only SentencePiece's "
          "handling of spaces is supported");
    }
  }
  return absl::OkStatus();
}

absl::Status ReadPreTokenizer(const Json& tokenizer, TokenizerSpec* spec) {
  for (const Json* step :
       StepsOf(Member(tokenizer, "pre_tokenizer"), "pretokenizers")) {
    if (Says(*step, "type", "Metaspace") &&
        Says(*step, "replacement", kSpaceMark)) {
      ASSIGN_OR_RETURN(const auto scheme, TextMember(*step, "prepend_scheme"));
      ASSIGN_OR_RETURN(const auto old, BoolMember(*step, "add_prefix_space"));
      const std::string usual = old.value_or(true) ? "always" : "never";
      if (scheme.value_or(usual) != "never") spec->add_space_prefix = true;
      continue;
    }
    // Gemma's: splits at spaces, of which the normaliser has left none.
    const Json* pattern = Member(*step, "pattern");
    if (Says(*step, "type", "Split") && pattern != nullptr &&
        Says(*pattern, "String", " ")) {
      continue;
    }
    return Unimplemented(
        "tokenizer.json splits text before its merges, which "
        "SentencePiece does not");
  }
  return absl::OkStatus();
}

// Marks <0x00> .. <0xFF>, if all are there.
void MarkBytes(TokenizerSpec* spec) {
  std::map<std::string_view, size_t> ids;
  for (size_t id = 0; id < spec->tokens.size(); ++id) {
    if (spec->types[id] == TokenType::kNormal) ids[spec->tokens[id]] = id;
  }
  std::vector<size_t> bytes;
  for (size_t byte = 0; byte < kNumBytes; ++byte) {
    const auto found = ids.find(fmt::format("<0x{:02X}>", byte));
    if (found != ids.end()) bytes.push_back(found->second);
  }
  if (bytes.size() != kNumBytes) return;
  for (const size_t id : bytes) spec->types[id] = TokenType::kByte;
}

// Merges as a list of pairs, and each token's best.
class MergeTable {
 public:
  absl::Status Read(const Json& tokenizer, const TokenizerSpec& spec) {
    ASSIGN_OR_RETURN(const std::vector<std::string> merges,
                     ReadMerges(*Member(tokenizer, "model")));
    for (size_t id = 0; id < spec.tokens.size(); ++id) {
      if (spec.types[id] == TokenType::kNormal) texts_.insert(spec.tokens[id]);
    }
    float rank = 0;
    for (const std::string& merge : merges) {
      const size_t space = merge.find(' ');
      if (space == std::string::npos) {
        return InvalidArgument("merge \"{}\" has no space",
                               merge.substr(0, 64));
      }
      std::string text = merge.substr(0, space) + merge.substr(space + 1);
      rank_.try_emplace(std::move(text), rank);
      pairs_.insert(merge);
      rank += 1;
    }
    return absl::OkStatus();
  }

  // SentencePiece merges any two neighbours that make a token: every such
  // pair has to be in the list.
  absl::Status Check(const std::string& text) const {
    for (size_t at = 1; at < text.size(); ++at) {
      if ((static_cast<uint8_t>(text[at]) & 0xC0) == 0x80) continue;
      const std::string left = text.substr(0, at);
      const std::string right = text.substr(at);
      if (!CanStand(left) || !CanStand(right)) continue;
      const std::string pair = left + " " + right;
      if (pairs_.contains(pair)) continue;
      return Unimplemented(
          "tokenizer.json does not merge \"{}\", as SentencePiece would; put "
          "tokenizer.model beside it",
          pair.substr(0, 64));
    }
    return absl::OkStatus();
  }

  // The better, the earlier its merge; a character, which none makes, has any.
  float ScoreOf(const std::string& text) const {
    const auto found = rank_.find(text);
    return found == rank_.end() ? 0.0f : -1.0f - found->second;
  }

 private:
  // A token, or a character: merging begins with those, known or not.
  bool CanStand(const std::string& text) const {
    size_t characters = 0;
    for (const char c : text) {
      characters += (static_cast<uint8_t>(c) & 0xC0) != 0x80;
    }
    return characters == 1 || texts_.contains(text);
  }

  std::unordered_set<std::string> texts_;
  std::unordered_map<std::string, float> rank_;
  std::unordered_set<std::string> pairs_;
};

}  // namespace

bool IsSentencePieceJson(const Json& tokenizer) {
  const Json* model = Member(tokenizer, "model");
  if (model == nullptr || !Says(*model, "type", "BPE")) return false;
  for (const Json* step :
       StepsOf(Member(tokenizer, "normalizer"), "normalizers")) {
    if (MarksSpaces(*step)) return true;
  }
  for (const Json* step :
       StepsOf(Member(tokenizer, "pre_tokenizer"), "pretokenizers")) {
    if (Says(*step, "type", "Metaspace")) return true;
  }
  return false;
}

absl::Status ReadSentencePieceJson(const Json& tokenizer, TokenizerSpec* spec) {
  spec->kind = TokenizerKind::kSentencePiece;
  const Json& model = *Member(tokenizer, "model");
  ASSIGN_OR_RETURN(const auto unknown, TextMember(model, "unk_token"));
  if (unknown) spec->unk_id = FindToken(*spec, *unknown);
  ASSIGN_OR_RETURN(const auto fallback, BoolMember(model, "byte_fallback"));
  if (fallback.value_or(false)) MarkBytes(spec);
  RETURN_IF_ERROR(ReadNormalizer(tokenizer, spec));
  RETURN_IF_ERROR(ReadPreTokenizer(tokenizer, spec));
  MergeTable merges;
  RETURN_IF_ERROR(merges.Read(tokenizer, *spec));
  for (size_t id = 0; id < spec->tokens.size(); ++id) {
    if (spec->types[id] != TokenType::kNormal) {
      spec->scores.push_back(kNoScore);
      continue;
    }
    RETURN_IF_ERROR(merges.Check(spec->tokens[id]));
    spec->scores.push_back(merges.ScoreOf(spec->tokens[id]));
  }
  return absl::OkStatus();
}

}  // namespace conclave::weights
