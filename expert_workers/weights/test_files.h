// Small model files for tests and fuzz corpora, written byte by byte so that
// a test can make each of them wrong in one place.
#ifndef CONCLAVE_EXPERT_WORKERS_WEIGHTS_TEST_FILES_H_
#define CONCLAVE_EXPERT_WORKERS_WEIGHTS_TEST_FILES_H_

#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "expert_workers/families/family.h"
#include "expert_workers/weights/byte_source.h"
#include "expert_workers/weights/gguf_file.h"
#include "kernels/quant_type.h"

namespace conclave::weights::testing {

// A directory that is removed with the object.
class TempDir {
 public:
  TempDir() {
    std::string pattern =
        (std::filesystem::temp_directory_path() / "conclave.XXXXXX").string();
    path_ = ::mkdtemp(pattern.data());
  }
  ~TempDir() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  std::string operator/(std::string_view name) const {
    return path_ + "/" + std::string(name);
  }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

inline void WriteFile(const std::string& path, std::string_view bytes) {
  std::ofstream(path, std::ios::binary)
      .write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

inline std::span<const std::byte> AsBytes(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

template <typename T>
void Append(std::string* out, T value) {
  out->append(reinterpret_cast<const char*>(&value), sizeof value);
}

inline std::string Floats(size_t count, uint32_t seed) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<float> uniform(-1, 1);
  std::string bytes;
  for (size_t i = 0; i < count; ++i) Append(&bytes, uniform(random));
  return bytes;
}

// `count` values of `type`: random codes under sane scales are not needed by
// anything that only moves rows, but halves must not be NaN for comparisons.
inline std::string Quantised(kernels::QuantType type, int64_t count,
                             uint32_t seed) {
  if (type == kernels::QuantType::kF32) {
    return Floats(static_cast<size_t>(count), seed);
  }
  std::mt19937 random(seed);
  std::string bytes(static_cast<size_t>(kernels::RowBytes(type, count)), '\0');
  // The top bits of every second byte stay clear: no half is Inf or NaN.
  for (size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] = static_cast<char>(random() & (i % 2 == 1 ? 0x3f : 0x7f));
  }
  return bytes;
}

class GgufBuilder {
 public:
  GgufBuilder& Int(std::string_view key, uint32_t value) {
    Key(key, GgufType::kUint32);
    Append(&keys_, value);
    return *this;
  }
  GgufBuilder& Float(std::string_view key, float value) {
    Key(key, GgufType::kFloat32);
    Append(&keys_, value);
    return *this;
  }
  GgufBuilder& Bool(std::string_view key, bool value) {
    Key(key, GgufType::kBool);
    Append(&keys_, static_cast<uint8_t>(value));
    return *this;
  }
  GgufBuilder& Text(std::string_view key, std::string_view value) {
    Key(key, GgufType::kString);
    String(&keys_, value);
    return *this;
  }
  GgufBuilder& Strings(std::string_view key,
                       const std::vector<std::string>& values) {
    Key(key, GgufType::kArray);
    Append(&keys_, static_cast<uint32_t>(GgufType::kString));
    Append(&keys_, static_cast<uint64_t>(values.size()));
    for (const std::string& value : values) String(&keys_, value);
    return *this;
  }
  GgufBuilder& Floats(std::string_view key, const std::vector<float>& values) {
    Key(key, GgufType::kArray);
    Append(&keys_, static_cast<uint32_t>(GgufType::kFloat32));
    Append(&keys_, static_cast<uint64_t>(values.size()));
    for (const float value : values) Append(&keys_, value);
    return *this;
  }
  GgufBuilder& Ints(std::string_view key, const std::vector<int32_t>& values) {
    Key(key, GgufType::kArray);
    Append(&keys_, static_cast<uint32_t>(GgufType::kInt32));
    Append(&keys_, static_cast<uint64_t>(values.size()));
    for (const int32_t value : values) Append(&keys_, value);
    return *this;
  }
  // dims[0] is contiguous.
  GgufBuilder& Tensor(std::string_view name, uint32_t type,
                      const std::vector<uint64_t>& dims,
                      std::string_view data) {
    data_.resize((data_.size() + 31) / 32 * 32);
    String(&tensors_, name);
    Append(&tensors_, static_cast<uint32_t>(dims.size()));
    for (const uint64_t dim : dims) Append(&tensors_, dim);
    Append(&tensors_, type);
    Append(&tensors_, static_cast<uint64_t>(data_.size()));
    data_ += data;
    ++num_tensors_;
    return *this;
  }
  std::string Build() const {
    std::string file = "GGUF";
    Append(&file, uint32_t{3});
    Append(&file, num_tensors_);
    Append(&file, num_keys_);
    file += keys_;
    file += tensors_;
    file.resize((file.size() + 31) / 32 * 32);
    return file + data_;
  }

 private:
  static void String(std::string* out, std::string_view text) {
    Append(out, static_cast<uint64_t>(text.size()));
    out->append(text);
  }
  void Key(std::string_view key, GgufType type) {
    String(&keys_, key);
    Append(&keys_, static_cast<uint32_t>(type));
    ++num_keys_;
  }

  std::string keys_;
  std::string tensors_;
  std::string data_;
  uint64_t num_keys_ = 0;
  uint64_t num_tensors_ = 0;
};

// A GGUF model of a few kilobytes with random weights, of any family.
struct TinyModel {
  std::string architecture = "llama";
  uint32_t num_layers = 2;
  uint32_t hidden = 64;
  uint32_t heads = 4;
  uint32_t kv_heads = 2;
  uint32_t ffn = 96;
  uint32_t vocab = 40;
  uint32_t seed = 1;
  // Layers from here on take `seed` + 1: two such models share the others.
  uint32_t first_different_layer = 1000;
  kernels::QuantType matrix_type = kernels::QuantType::kQ8_0;
  std::string without;  // leaves out the tensor of this name
  bool sentencepiece = false;
  size_t num_scores = 40;
  std::function<void(GgufBuilder*)> more;  // adds keys and tensors

  std::vector<std::string> Tokens() const {
    std::vector<std::string> tokens = {"<|endoftext|>", "<|im_start|>",
                                       "<|im_end|>"};
    while (tokens.size() < vocab) {
      tokens.push_back("t" + std::to_string(tokens.size()));
    }
    return tokens;
  }

  std::string Build() const {
    GgufBuilder file;
    file.Text("general.architecture", architecture);
    const std::string a = architecture + ".";
    file.Int(a + "block_count", num_layers);
    file.Int(a + "context_length", 128);
    file.Int(a + "embedding_length", hidden);
    file.Int(a + "feed_forward_length", ffn);
    file.Int(a + "attention.head_count", heads);
    file.Int(a + "attention.head_count_kv", kv_heads);
    file.Float(a + "attention.layer_norm_rms_epsilon", 1e-5f);
    file.Text("tokenizer.ggml.model", sentencepiece ? "llama" : "gpt2");
    file.Text("tokenizer.ggml.pre", "smollm");
    file.Strings("tokenizer.ggml.tokens", Tokens());
    std::vector<int32_t> types(vocab, 1);
    types[0] = types[1] = types[2] = 3;
    file.Ints("tokenizer.ggml.token_type", types);
    if (sentencepiece) {
      file.Floats("tokenizer.ggml.scores", std::vector<float>(num_scores));
      file.Int("tokenizer.ggml.unknown_token_id", 2);
    } else {
      file.Strings("tokenizer.ggml.merges", {"a b", "c d"});
    }
    file.Int("tokenizer.ggml.eos_token_id", 0);
    file.Text("tokenizer.chat_template", "{{ messages }}");
    uint32_t next = seed * 1000;
    const auto add = [&](const std::string& name, uint64_t cols, uint64_t rows,
                         uint32_t extra) {
      const uint32_t tensor_seed = ++next + extra;
      if (name == without) return;
      if (rows == 0) {
        file.Tensor(name, 0, {cols}, Floats(cols, tensor_seed));
        return;
      }
      file.Tensor(name, static_cast<uint32_t>(matrix_type), {cols, rows},
                  Quantised(matrix_type, static_cast<int64_t>(cols * rows),
                            tensor_seed));
    };
    const families::Family& family = *families::FindFamily(
        families::FindFamily(architecture) != nullptr ? architecture : "llama");
    ModelHyperparameters model;
    model.hidden_size = hidden;
    model.intermediate_size = ffn;
    model.num_heads = heads;
    model.num_kv_heads = kv_heads;
    model.head_dim = hidden / heads;
    model.vocab_size = vocab;
    const auto add_rule = [&](const std::string& prefix,
                              const families::TensorRule& rule,
                              uint32_t extra) {
      const auto side = [&](families::Side s) {
        return static_cast<uint64_t>(families::Extent(s, model));
      };
      const bool vector = rule.rows == families::Side::kOne;
      add(prefix + std::string(rule.gguf), side(rule.cols),
          vector ? 0 : side(rule.rows), extra);
    };
    add("token_embd.weight", hidden, vocab, 0);
    for (uint32_t layer = 0; layer < num_layers; ++layer) {
      for (const auto& rule : families::RulesOf(family.list_layer)) {
        if (rule.optional) continue;
        add_rule("blk." + std::to_string(layer) + ".", rule,
                 layer >= first_different_layer ? 500 : 0);
      }
    }
    if (more) more(&file);
    add("output_norm.weight", hidden, 0, 0);
    return file.Build();
  }
};

// A real model's path, or "" where it is not on this machine.
inline std::string RealModel(std::string_view name) {
  const char* models = std::getenv("CONCLAVE_MODELS");
  const char* home = std::getenv("HOME");
  const std::string folder = models != nullptr
                                 ? std::string(models)
                                 : std::string(home != nullptr ? home : "") +
                                       "/.cache/conclave/models";
  const std::string path = folder + "/" + std::string(name);
  return std::filesystem::exists(path) ? path : "";
}

}  // namespace conclave::weights::testing

#endif  // CONCLAVE_EXPERT_WORKERS_WEIGHTS_TEST_FILES_H_
