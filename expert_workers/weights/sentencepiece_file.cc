#include "expert_workers/weights/sentencepiece_file.h"

#include "expert_workers/weights/proto_reader.h"
#include "expert_workers/weights/tokenizer_facts.h"

namespace conclave::weights {
namespace {

// Field numbers of sentencepiece_model.proto.
enum ModelField : uint32_t { kPieces = 1, kTrainer = 2, kNormalizer = 3 };
enum PieceField : uint32_t { kPiece = 1, kScore = 2, kType = 3 };
enum TrainerField : uint32_t {
  kModelType = 3,
  kSpaceAsSuffix = 24,
  kUnkId = 40,
  kBosId = 41,
  kEosId = 42,
  kPadId = 43,
};
enum NormalizerField : uint32_t {
  kCharsMap = 2,
  kAddDummyPrefix = 3,
  kRemoveExtraWhitespaces = 4,
  kEscapeWhitespaces = 5,
};
constexpr uint64_t kModelTypeBpe = 2;

absl::Status Malformed(std::string_view what) {
  return InvalidArgument("{} is malformed or truncated", what);
}

absl::Status ReadPiece(std::string_view message, TokenizerSpec* spec) {
  ProtoReader reader(message);
  std::string_view text;
  float score = 0;
  uint64_t type = 1;
  while (reader.Next()) {
    if (reader.field() == kPiece) text = reader.bytes();
    if (reader.field() == kScore) score = reader.fixed32();
    if (reader.field() == kType) type = reader.varint();
  }
  if (!reader.ok()) return Malformed("a token");
  if (type < 1 || type > 6) {
    return InvalidArgument("token {} has type {}; types are 1..6",
                           spec->tokens.size(), type);
  }
  spec->tokens.emplace_back(text);
  spec->scores.push_back(score);
  spec->types.push_back(static_cast<TokenType>(type));
  return absl::OkStatus();
}

absl::Status ReadTrainer(std::string_view message, TokenizerSpec* spec) {
  ProtoReader reader(message);
  uint64_t model_type = 1;
  bool space_as_suffix = false;
  while (reader.Next()) {
    // int32, sign-extended: -1 stands for none.
    const auto id = static_cast<int32_t>(reader.varint());
    switch (reader.field()) {
      case kModelType:
        model_type = reader.varint();
        break;
      case kSpaceAsSuffix:
        space_as_suffix = reader.varint() != 0;
        break;
      case kUnkId:
        spec->unk_id = id;
        break;
      case kBosId:
        spec->bos_id = id;
        break;
      case kEosId:
        spec->eos_id = id;
        break;
      case kPadId:
        spec->pad_id = id;
        break;
      default:
        break;
    }
  }
  if (!reader.ok()) return Malformed("its trainer_spec");
  if (model_type != kModelTypeBpe) {
    return Unimplemented(
        "SentencePiece model type {}; only BPE (2) is "
        "supported",
        model_type);
  }
  if (space_as_suffix) {
    return Unimplemented("spaces are suffixes; only prefixes are supported");
  }
  return absl::OkStatus();
}

absl::Status ReadNormalizer(std::string_view message, TokenizerSpec* spec) {
  ProtoReader reader(message);
  bool escapes = true;
  while (reader.Next()) {
    const bool flag = reader.varint() != 0;
    switch (reader.field()) {
      case kCharsMap:
        // The library reads rules without looking where they point.
        if (reader.bytes().empty()) break;
        return Unimplemented(
            "the tokenizer has normalisation rules; they are "
            "not supported");
      case kAddDummyPrefix:
        spec->add_space_prefix = flag;
        break;
      case kRemoveExtraWhitespaces:
        spec->remove_extra_spaces = flag;
        break;
      case kEscapeWhitespaces:
        escapes = flag;
        break;
      default:
        break;
    }
  }
  if (!reader.ok()) return Malformed("its normalizer_spec");
  if (!escapes) {
    return Unimplemented(
        "spaces are not escaped; only escaped ones are "
        "supported");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<TokenizerSpec> ReadSentencePieceFile(std::string_view file,
                                                    int64_t vocab_size) {
  TokenizerSpec spec;
  spec.kind = TokenizerKind::kSentencePiece;
  // The format's defaults.
  spec.unk_id = 0;
  spec.bos_id = 1;
  spec.eos_id = 2;
  spec.add_space_prefix = true;
  spec.remove_extra_spaces = true;
  std::string_view trainer;
  std::string_view normalizer;
  ProtoReader reader(file);
  while (reader.Next()) {
    if (reader.field() == kPieces) {
      RETURN_IF_ERROR(ReadPiece(reader.bytes(), &spec));
    }
    if (reader.field() == kTrainer) trainer = reader.bytes();
    if (reader.field() == kNormalizer) normalizer = reader.bytes();
  }
  // Without these the format has defaults; a file that was cut off, too.
  if (!reader.ok() || trainer.empty() || normalizer.empty()) {
    return Malformed("the file");
  }
  RETURN_IF_ERROR(ReadTrainer(trainer, &spec));
  RETURN_IF_ERROR(ReadNormalizer(normalizer, &spec));
  if (static_cast<int64_t>(spec.tokens.size()) > vocab_size) {
    return InvalidArgument("{} tokens, but a vocabulary of {}",
                           spec.tokens.size(), vocab_size);
  }
  PadVocabulary(vocab_size, &spec);
  return spec;
}

}  // namespace conclave::weights
