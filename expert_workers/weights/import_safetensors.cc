#include "expert_workers/weights/import_safetensors.h"

#include <limits>
#include <map>
#include <optional>
#include <set>

#include "base/units.h"
#include "expert_workers/weights/family_units.h"
#include "expert_workers/weights/hf_config.h"
#include "expert_workers/weights/hf_names.h"
#include "expert_workers/weights/hf_sentencepiece.h"
#include "expert_workers/weights/hf_tokenizer.h"
#include "expert_workers/weights/json.h"
#include "expert_workers/weights/safetensors_file.h"
#include "expert_workers/weights/tokenizer_facts.h"

namespace conclave::weights {
namespace {

constexpr char kWeightsFile[] = "model.safetensors";
constexpr char kIndexFile[] = "model.safetensors.index.json";
constexpr size_t kMaxShards = 1024;

class FolderImporter {
 public:
  explicit FolderImporter(const Folder& folder) : folder_(folder) {}

  absl::StatusOr<ModelSource> Open() {
    source_.name = folder_.name();
    ASSIGN_OR_RETURN(const Json config, ReadJson("config.json", kMiB));
    ASSIGN_OR_RETURN(const families::NamedFamily named,
                     Named("config.json", FamilyOfConfig(config)));
    const families::Family& family = *named.family;
    ASSIGN_OR_RETURN(source_.spec.hyperparameters,
                     Named("config.json", ReadHfConfig(config, named)));
    RETURN_IF_ERROR(ReadTokenizer(config));
    RETURN_IF_ERROR(OpenWeights());
    ASSIGN_OR_RETURN(std::vector<SourceTensor> tensors,
                     TranslateTensors(family));
    ASSIGN_OR_RETURN(
        source_.units,
        SortIntoUnits(family, source_.spec.hyperparameters,
                      SourceFormat::kHuggingFace, std::move(tensors)));
    RETURN_IF_ERROR(CheckHead(family));
    // Files that hold tensors come first: their indices are in the tensors.
    for (auto& file : settings_) source_.files.push_back(std::move(file));
    return std::move(source_);
  }

 private:
  // Adds the file's name to an error, once.
  template <typename T>
  static absl::StatusOr<T> Named(std::string_view file,
                                 absl::StatusOr<T> value) {
    if (value.ok()) return value;
    return Annotate(value.status(), file);
  }

  // The text of a settings file; it becomes part of the source's digest.
  absl::StatusOr<std::string> ReadText(std::string_view file, int64_t limit) {
    ASSIGN_OR_RETURN(std::shared_ptr<ByteSource> opened, folder_.Open(file));
    ASSIGN_OR_RETURN(std::string text, ReadAll(*opened, limit));
    settings_.push_back(std::move(opened));
    return text;
  }

  absl::StatusOr<Json> ReadJson(std::string_view file, int64_t limit) {
    absl::StatusOr<std::string> text = ReadText(file, limit);
    if (absl::IsNotFound(text.status())) {
      return InvalidArgument("{} has no {}; a model's folder needs it",
                             folder_.name(), file);
    }
    RETURN_IF_ERROR(text);
    return ParseJson(*text, file);
  }

  // An empty object where the file is absent.
  absl::StatusOr<Json> ReadOptionalJson(std::string_view file, int64_t limit) {
    absl::StatusOr<std::string> text = ReadText(file, limit);
    if (absl::IsNotFound(text.status())) return Json::object();
    RETURN_IF_ERROR(text);
    return ParseJson(*text, file);
  }

  absl::Status ReadTokenizer(const Json& config) {
    ASSIGN_OR_RETURN(const Json json,
                     ReadOptionalJson("tokenizer.json", 64 * kMiB));
    ASSIGN_OR_RETURN(const Json settings,
                     ReadOptionalJson("tokenizer_config.json", 16 * kMiB));
    ASSIGN_OR_RETURN(const Json generation,
                     ReadOptionalJson("generation_config.json", kMiB));
    TokenizerSpec& tokenizer = source_.spec.tokenizer;
    ASSIGN_OR_RETURN(tokenizer, ReadVocabulary(json, settings));
    RETURN_IF_ERROR(AddEndIds(config, &tokenizer));
    RETURN_IF_ERROR(AddEndIds(generation, &tokenizer));
    AddEndOfTurnIds(&tokenizer);
    RETURN_IF_ERROR(CheckTokenizer(tokenizer));
    absl::StatusOr<std::string> jinja = ReadText("chat_template.jinja", kMiB);
    if (!jinja.ok() && !absl::IsNotFound(jinja.status())) {
      return jinja.status();
    }
    source_.spec.chat_template =
        jinja.ok() ? *std::move(jinja) : ChatTemplateOf(settings);
    return absl::OkStatus();
  }

  // tokenizer.json; or tokenizer.model, where that is what the other was made
  // from.
  absl::StatusOr<TokenizerSpec> ReadVocabulary(const Json& json,
                                               const Json& settings) {
    const int64_t vocab_size = source_.spec.hyperparameters.vocab_size;
    if (json.empty() || IsSentencePieceJson(json)) {
      const absl::StatusOr<std::string> file =
          ReadText("tokenizer.model", 64 * kMiB);
      if (file.ok()) {
        return Named("tokenizer.model",
                     ReadHfSentencePiece(*file, json, settings, vocab_size));
      }
      if (!absl::IsNotFound(file.status())) return file.status();
    }
    if (json.empty()) {
      return InvalidArgument(
          "{} has neither tokenizer.json nor tokenizer.model; a model's folder "
          "needs one",
          folder_.name());
    }
    return Named("tokenizer.json", ReadHfTokenizer(json, settings, vocab_size));
  }

  // "eos_token_id": one id or a list. The first is the EOS where the
  // tokenizer's settings name none; all end a turn.
  static absl::Status AddEndIds(const Json& config, TokenizerSpec* tokenizer) {
    const Json* value = Member(config, "eos_token_id");
    if (value == nullptr) return absl::OkStatus();
    const Json list = value->is_array() ? *value : Json::array({*value});
    for (const Json& id : list) {
      if (!id.is_number_unsigned() ||
          id.get<uint64_t>() >= tokenizer->tokens.size()) {
        return InvalidArgument(
            "\"eos_token_id\" is not an id of the vocabulary of {}",
            tokenizer->tokens.size());
      }
      const auto number = static_cast<int32_t>(id.get<uint64_t>());
      if (tokenizer->eos_id < 0) tokenizer->eos_id = number;
      tokenizer->end_of_turn_ids.push_back(number);
    }
    return absl::OkStatus();
  }

  absl::Status OpenShard(std::string_view file) {
    ASSIGN_OR_RETURN(std::shared_ptr<ByteSource> opened, folder_.Open(file));
    ASSIGN_OR_RETURN(std::vector<SafetensorsTensor> tensors,
                     ParseSafetensors(*opened));
    const size_t index = source_.files.size();
    source_.files.push_back(std::move(opened));
    for (SafetensorsTensor& tensor : tensors) {
      const std::string name = tensor.name;
      if (!tensors_.emplace(name, Found{std::move(tensor), index}).second) {
        return InvalidArgument("{}: tensor {} is in another shard, too", file,
                               name);
      }
    }
    return absl::OkStatus();
  }

  absl::Status OpenWeights() {
    const absl::Status single = OpenShard(kWeightsFile);
    if (!absl::IsNotFound(single)) return single;
    absl::StatusOr<Json> index = ReadOptionalJson(kIndexFile, 16 * kMiB);
    RETURN_IF_ERROR(index);
    const Json* map = Member(*index, "weight_map");
    if (map == nullptr || !map->is_object()) {
      return InvalidArgument(
          "{} has neither {} nor {} with a \"weight_map\"; weights in other "
          "formats (pickle) are never read",
          folder_.name(), kWeightsFile, kIndexFile);
    }
    std::map<std::string, std::string> shard_of;
    std::set<std::string> shards;
    for (const auto& [tensor, shard] : map->items()) {
      if (!shard.is_string() ||
          !shard.get<std::string>().ends_with(".safetensors")) {
        return InvalidArgument("{}: tensor {} is in no .safetensors file",
                               kIndexFile, tensor.substr(0, 200));
      }
      shard_of[tensor] = shard.get<std::string>();
      shards.insert(shard.get<std::string>());
    }
    if (shards.size() > kMaxShards) {
      return InvalidArgument("{}: {} shards; at most {}", kIndexFile,
                             shards.size(), kMaxShards);
    }
    for (const std::string& shard : shards) {
      const absl::Status opened = OpenShard(shard);
      if (absl::IsNotFound(opened)) {
        return InvalidArgument("{}: shard {} is missing", kIndexFile,
                               shard.substr(0, 200));
      }
      RETURN_IF_ERROR(opened);
    }
    for (const auto& [tensor, shard] : shard_of) {
      const auto found = tensors_.find(tensor);
      if (found == tensors_.end() ||
          source_.files[found->second.file]->name() != shard) {
        return InvalidArgument("{}: tensor {} is not in {}", kIndexFile,
                               tensor.substr(0, 200), shard.substr(0, 200));
      }
    }
    return absl::OkStatus();
  }

  static std::optional<kernels::QuantType> TypeOf(std::string_view dtype) {
    if (dtype == "F32") return kernels::QuantType::kF32;
    if (dtype == "F16") return kernels::QuantType::kF16;
    if (dtype == "BF16") return kernels::QuantType::kBF16;
    return std::nullopt;
  }

  absl::StatusOr<std::vector<SourceTensor>> TranslateTensors(
      const families::Family& family) const {
    const HfNames names(family);
    std::vector<SourceTensor> tensors;
    for (const auto& [name, found] : tensors_) {
      const auto translated = names.Translate(name);
      if (!translated) {
        return Unimplemented("tensor {} is not one that the {} family has",
                             name.substr(0, 200), family.architecture);
      }
      if (translated->empty()) continue;
      // Some writers store a tied head a second time.
      if (*translated == "output.weight" &&
          source_.spec.hyperparameters.tied_embeddings) {
        continue;
      }
      const SafetensorsTensor& from = found.tensor;
      const auto type = TypeOf(from.dtype);
      if (!type) {
        return Unimplemented(
            "tensor {} has dtype {}; supported are F32, F16, BF16", name,
            from.dtype.substr(0, 32));
      }
      if (from.shape.empty() || from.shape.size() > 2) {
        return InvalidArgument("tensor {} has {} dimensions", name,
                               from.shape.size());
      }
      SourceTensor tensor;
      tensor.name = *translated;
      tensor.type = *type;
      tensor.cols = from.shape.back();
      tensor.rows = from.shape.size() == 2 ? from.shape[0] : 1;
      tensor.is_vector = from.shape.size() == 1;
      tensor.file = found.file;
      tensor.offset = from.offset;
      tensors.push_back(std::move(tensor));
    }
    return tensors;
  }

  // A decoder's head is its own or the embedding; config.json says which.
  absl::Status CheckHead(const families::Family& family) const {
    if (family.list_head == nullptr ||
        source_.spec.hyperparameters.tied_embeddings) {
      return absl::OkStatus();
    }
    for (const SourceTensor& tensor : source_.units.back().tensors) {
      if (tensor.name == "output.weight") return absl::OkStatus();
    }
    return InvalidArgument(
        "tensor lm_head.weight is missing, and \"tie_word_embeddings\" is not "
        "true");
  }

  struct Found {
    SafetensorsTensor tensor;
    size_t file = 0;
  };

  const Folder& folder_;
  ModelSource source_;
  std::map<std::string, Found> tensors_;
  std::vector<std::shared_ptr<ByteSource>> settings_;
};

}  // namespace

absl::StatusOr<ModelSource> OpenSafetensors(const Folder& folder) {
  return FolderImporter(folder).Open();
}

}  // namespace conclave::weights
