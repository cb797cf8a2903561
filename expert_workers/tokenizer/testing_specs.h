// For tests and benchmarks alone: tokenizer specs of real model files, read
// without the importer so that this folder's tests depend on nothing else.
// Trusts the files.
#ifndef CONCLAVE_EXPERT_WORKERS_TOKENIZER_TESTING_SPECS_H_
#define CONCLAVE_EXPERT_WORKERS_TOKENIZER_TESTING_SPECS_H_

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>

#include "expert_workers/weights/model_spec.h"

namespace conclave::engine::testing {

inline std::filesystem::path ModelsDir() {
  if (const char* dir = std::getenv("CONCLAVE_MODELS")) return dir;
  const char* home = std::getenv("HOME");
  return std::filesystem::path(home ? home : "/") / ".cache/conclave/models";
}

// Reads the metadata of a GGUF file, keeping what a tokenizer needs.
class GgufVocabReader {
 public:
  explicit GgufVocabReader(const std::filesystem::path& path)
      : in_(path, std::ios::binary) {}

  std::optional<weights::ModelSpec> Read() {
    if (!in_ || Number<uint32_t>() != 0x46554747) return std::nullopt;
    Number<uint32_t>();  // version
    Number<uint64_t>();  // tensors
    const auto count = Number<uint64_t>();
    for (uint64_t i = 0; i < count && in_; ++i) {
      const std::string key = String();
      Value(key, Number<uint32_t>());
    }
    if (!in_) return std::nullopt;
    return spec_;
  }

 private:
  template <typename T>
  T Number() {
    T value{};
    in_.read(reinterpret_cast<char*>(&value), sizeof(value));
    return value;
  }
  std::string String() {
    std::string text(Number<uint64_t>(), '\0');
    in_.read(text.data(), static_cast<std::streamsize>(text.size()));
    return text;
  }
  void Value(const std::string& key, uint32_t type) {
    constexpr int kSizes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    constexpr uint32_t kString = 8;
    constexpr uint32_t kArray = 9;
    auto& tokenizer = spec_.tokenizer;
    if (type == kString) {
      const std::string text = String();
      if (key == "tokenizer.ggml.pre") tokenizer.pre = text;
      if (key == "tokenizer.ggml.model" && text == "llama") {
        tokenizer.kind = weights::TokenizerKind::kSentencePiece;
      }
      if (key == "tokenizer.chat_template") spec_.chat_template = text;
    } else if (type == kArray) {
      const auto element = Number<uint32_t>();
      const auto count = Number<uint64_t>();
      for (uint64_t i = 0; i < count && in_; ++i) {
        if (key == "tokenizer.ggml.tokens") {
          tokenizer.tokens.push_back(String());
        } else if (key == "tokenizer.ggml.merges") {
          tokenizer.merges.push_back(String());
        } else if (key == "tokenizer.ggml.token_type") {
          tokenizer.types.push_back(
              static_cast<weights::TokenType>(Number<int32_t>()));
        } else if (key == "tokenizer.ggml.scores") {
          tokenizer.scores.push_back(Number<float>());
        } else {
          Value("", element);
        }
      }
    } else if (key == "tokenizer.ggml.bos_token_id") {
      tokenizer.bos_id = Number<int32_t>();
    } else if (key == "tokenizer.ggml.eos_token_id") {
      tokenizer.eos_id = Number<int32_t>();
    } else if (key == "tokenizer.ggml.unknown_token_id") {
      tokenizer.unk_id = Number<int32_t>();
    } else if (key == "tokenizer.ggml.add_space_prefix") {
      tokenizer.add_space_prefix = Number<uint8_t>() != 0;
    } else {
      in_.ignore(kSizes[type]);
    }
  }

  std::ifstream in_;
  weights::ModelSpec spec_;
};

inline constexpr char kSmolLm2[] = "SmolLM2-135M-Instruct.Q4_1.gguf";
inline constexpr char kQwen2Coder[] = "Qwen2.5-Coder-0.5B-Instruct.Q4_K_M.gguf";

inline constexpr char kGemma3[] = "gemma-3-270m.Q4_K_M.gguf";

// None when the file is missing.
inline std::optional<weights::ModelSpec> ReadGgufSpec(const std::string& file) {
  return GgufVocabReader(ModelsDir() / file).Read();
}

// all-MiniLM-L6-v2 from its vocab.txt.
inline std::optional<weights::TokenizerSpec> ReadMiniLmSpec() {
  std::ifstream in(ModelsDir() / "all-MiniLM-L6-v2" / "vocab.txt");
  if (!in) return std::nullopt;
  weights::TokenizerSpec spec;
  spec.kind = weights::TokenizerKind::kWordPiece;
  spec.lowercase = true;
  for (std::string line; std::getline(in, line);) {
    const auto id = static_cast<int32_t>(spec.tokens.size());
    const bool control = line == "[CLS]" || line == "[SEP]" ||
                         line == "[PAD]" || line == "[MASK]" || line == "[UNK]";
    if (line == "[CLS]") spec.cls_id = id;
    if (line == "[SEP]") spec.sep_id = id;
    if (line == "[PAD]") spec.pad_id = id;
    if (line == "[UNK]") spec.unk_id = id;
    spec.tokens.push_back(line);
    spec.types.push_back(control ? weights::TokenType::kControl
                                 : weights::TokenType::kNormal);
  }
  return spec;
}

}  // namespace conclave::engine::testing

#endif  // CONCLAVE_EXPERT_WORKERS_TOKENIZER_TESTING_SPECS_H_
