#include "expert_workers/engine/tiny_model.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <map>
#include <string_view>
#include <utility>
#include <vector>

#include "base/check.h"
#include "expert_workers/engine/random.h"
#include "expert_workers/families/family.h"
#include "kernels/packed_matrix.h"

namespace conclave::engine {
namespace {

using kernels::QuantType;

// GPT-2's printable stand-in for a byte.
std::string PrintableByte(int byte) {
  const auto prints = [](int b) {
    return (b >= 33 && b <= 126) || (b >= 161 && b <= 172) ||
           (b >= 174 && b <= 255);
  };
  int code = byte;
  if (!prints(byte)) {
    code = 256;
    for (int b = 0; b < byte; ++b) code += prints(b) ? 0 : 1;
  }
  if (code < 0x80) return std::string(1, static_cast<char>(code));
  return {static_cast<char>(0xc0 | (code >> 6)),
          static_cast<char>(0x80 | (code & 0x3f))};
}

weights::TokenizerSpec TinyTokenizerSpec() {
  weights::TokenizerSpec spec;
  spec.pre = "gpt2";
  for (int byte = 0; byte < 256; ++byte) {
    spec.tokens.push_back(PrintableByte(byte));
  }
  for (const std::string_view word : kTinyWords) {
    std::string printable;
    for (const char c : word) {
      printable += PrintableByte(static_cast<unsigned char>(c));
    }
    spec.tokens.push_back(printable);
  }
  spec.types.assign(spec.tokens.size(), weights::TokenType::kNormal);
  spec.tokens.emplace_back("<|end|>");
  spec.types.push_back(weights::TokenType::kControl);
  spec.eos_id = kTinyEndOfTurn;
  spec.end_of_turn_ids = {kTinyEndOfTurn};
  return spec;
}

class TinyLease final : public weights::ModelLease {
 public:
  explicit TinyLease(const TinyModelOptions& options,
                     weights::ModelHyperparameters model) {
    manifest_.version = "tiny";
    manifest_.spec.hyperparameters = std::move(model);
    manifest_.spec.tokenizer = TinyTokenizerSpec();
    if (options.other_tokens) manifest_.spec.tokenizer.tokens[100] = "?!";
    manifest_.spec.tokenizer.tokens.resize(
        static_cast<size_t>(kTinyVocabSize - options.missing_tokens));
  }
  ~TinyLease() override {
    for (auto& [name, tensor] : matrices_) std::free(tensor.data);
  }

  const weights::ModelManifest& manifest() const override { return manifest_; }
  absl::StatusOr<kernels::PackedMatrix> Matrix(
      std::string_view name) const override {
    const auto it = matrices_.find(name);
    if (it == matrices_.end()) return NotFound("no matrix {}", name);
    return it->second.view;
  }
  absl::StatusOr<std::span<const float>> Vector(
      std::string_view name) const override {
    const auto it = vectors_.find(name);
    if (it == vectors_.end()) return NotFound("no vector {}", name);
    return std::span<const float>(it->second);
  }
  bool Has(std::string_view name) const override {
    return matrices_.contains(name) || vectors_.contains(name);
  }

  void AddVector(const std::string& name, std::vector<float> values) {
    vectors_[name] = std::move(values);
  }

  // `rows` contiguous rows of `type`.
  void AddMatrix(const std::string& name, QuantType type, int64_t rows,
                 int64_t cols, const std::vector<std::byte>& source) {
    CHECK(kernels::CanPack(type, cols));
    PackedTensor& tensor = matrices_[name];
    const int64_t panels = kernels::NumPanels(rows);
    const int64_t panel_bytes = kernels::PanelBytes(type, cols);
    tensor.data = static_cast<std::byte*>(
        std::aligned_alloc(64, static_cast<size_t>(panels * panel_bytes)));
    const int64_t row_bytes = kernels::RowBytes(type, cols);
    for (int64_t p = 0; p < panels; ++p) {
      const int64_t first = p * kernels::kPanelRows;
      kernels::PackPanel(type, source.data() + first * row_bytes,
                         std::min(kernels::kPanelRows, rows - first), cols,
                         tensor.data + p * panel_bytes);
    }
    tensor.run = {tensor.data, 0, panels};
    tensor.view = {type, rows, cols, std::span(&tensor.run, 1)};
  }

 private:
  struct PackedTensor {
    std::byte* data = nullptr;
    kernels::PanelRun run;
    kernels::PackedMatrix view;
  };
  weights::ModelManifest manifest_;
  std::map<std::string, PackedTensor, std::less<>> matrices_;
  std::map<std::string, std::vector<float>, std::less<>> vectors_;
};

class Builder {
 public:
  Builder(uint64_t seed, TinyLease* lease) : seed_(seed), lease_(lease) {}

  void Vector(const std::string& name, int64_t size, float centre,
              float spread) {
    std::vector<float> values;
    for (int64_t i = 0; i < size; ++i) {
      values.push_back(centre + spread * Signed());
    }
    lease_->AddVector(name, std::move(values));
  }

  // Values of some 1/sqrt(cols) * gain, in a format that takes turns.
  void Matrix(const std::string& name, int64_t rows, int64_t cols, float gain) {
    static constexpr QuantType kTypes[] = {QuantType::kQ8_0, QuantType::kQ4_0,
                                           QuantType::kF16};
    const QuantType type = kTypes[next_type_++ % 3];
    const float scale = gain / std::sqrt(static_cast<float>(cols));
    std::vector<std::byte> bytes(
        static_cast<size_t>(rows * kernels::RowBytes(type, cols)));
    const kernels::QuantTraits& traits = kernels::TraitsOf(type);
    for (size_t at = 0; at < bytes.size();
         at += static_cast<size_t>(traits.block_bytes)) {
      if (type == QuantType::kF16) {
        PutHalf(&bytes[at], scale * Signed());
        continue;
      }
      // A half scale, then codes.
      const float largest = type == QuantType::kQ8_0 ? 127.0f : 8.0f;
      PutHalf(&bytes[at], scale / largest);
      for (int64_t i = 2; i < traits.block_bytes; ++i) {
        bytes[at + static_cast<size_t>(i)] = static_cast<std::byte>(Bits());
      }
    }
    lease_->AddMatrix(name, type, rows, cols, bytes);
  }

  float Signed() {
    return static_cast<float>(2 * RandomUnit(seed_, 0, counter_++) - 1);
  }

 private:
  uint64_t Bits() { return MixBits(seed_ ^ MixBits(counter_++)); }
  static void PutHalf(std::byte* at, float value) {
    const uint16_t half = kernels::FloatToHalf(value);
    std::memcpy(at, &half, sizeof(half));
  }

  const uint64_t seed_;
  TinyLease* const lease_;
  uint64_t counter_ = 0;
  int next_type_ = 0;
};

std::vector<std::byte> RandomRows(Builder& build, int64_t rows, int64_t cols,
                                  int32_t poisoned_row) {
  std::vector<float> values;
  for (int64_t i = 0; i < rows * cols; ++i) {
    const float value = build.Signed();  // drawn in any case: others stay
    values.push_back(i / cols == poisoned_row
                         ? std::numeric_limits<float>::quiet_NaN()
                         : value);
  }
  std::vector<std::byte> bytes(values.size() * sizeof(float));
  std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

weights::ModelHyperparameters TinyHyperparameters(
    const TinyModelOptions& options) {
  weights::ModelHyperparameters m;
  m.architecture = options.architecture;
  m.num_layers = 2;
  m.hidden_size = 64;
  m.intermediate_size = 96;
  m.num_heads = 4;
  m.num_kv_heads = 2;
  m.head_dim = 16;
  m.vocab_size = kTinyVocabSize - options.missing_tokens;
  m.max_context = options.max_context;
  m.tied_embeddings = options.tied_embeddings;
  if (options.window > 0) {
    // The first layer looks back over a window, the second sees all.
    m.layer_windows = {options.window, 0};
  }
  if (const auto* family = families::FindFamily(options.architecture);
      family != nullptr && family->list_expert != nullptr) {
    m.moe = {.num_experts = 7,
             .experts_per_token = 3,
             .intermediate_size = 32,
             .renormalize = family->renormalizes};
    if (options.architecture == "qwen2moe") {
      m.moe.shared_intermediate_size = 64;
    }
  }
  if (options.architecture == "gemma3") {
    m.head_dim = 32;  // apart from hidden_size / num_heads
    m.rope_theta = 1e6f;
    m.rope_local_theta = 1e4f;
    m.attention_scale = 0.2f;
  }
  return m;
}

// How a tensor is drawn: `gain` of a matrix, centre and spread of a vector.
struct Character {
  float gain = 2;
  float centre = 1;
  float spread = 0.3f;
};

Character CharacterOf(const families::TensorRule& rule) {
  if (rule.rows == families::Side::kOne && rule.gguf.ends_with(".bias")) {
    return {.centre = 0, .spread = 1};
  }
  if (rule.gguf == "output_norm.weight")
    return {.centre = 0.3f, .spread = 0.1f};
  if (rule.roped || rule.gguf == "output.weight") return {.gain = 3};
  return {};
}

void AddGroup(const std::vector<families::TensorRule>& rules,
              const std::string& prefix,
              const weights::ModelHyperparameters& model, Builder* build) {
  for (const families::TensorRule& rule : rules) {
    if (families::MayBeAbsent(rule, model) ||
        rule.gguf == "token_embd.weight") {
      continue;
    }
    const std::string name = prefix + std::string(rule.gguf);
    const Character character = CharacterOf(rule);
    const int64_t cols = families::Extent(rule.cols, model);
    if (rule.rows == families::Side::kOne) {
      build->Vector(name, cols, character.centre, character.spread);
    } else {
      build->Matrix(name, families::Extent(rule.rows, model), cols,
                    character.gain);
    }
  }
}

}  // namespace

std::unique_ptr<weights::ModelLease> MakeTinyModelWithPoison(
    const TinyModelOptions& options, int32_t poisoned_token) {
  const weights::ModelHyperparameters m = TinyHyperparameters(options);
  const families::Family* family = families::FindFamily(m.architecture);
  // A name that nobody knows, to be refused: any tensors will do.
  if (family == nullptr) family = families::FindFamily("llama");
  auto lease = std::make_unique<TinyLease>(options, m);
  Builder build(options.seed, lease.get());
  lease->AddMatrix(
      "token_embd.weight", QuantType::kF32, m.vocab_size, m.hidden_size,
      RandomRows(build, m.vocab_size, m.hidden_size, poisoned_token));
  AddGroup(families::RulesOf(family->list_head), "", m, &build);
  if (!options.tied_embeddings) {
    build.Matrix("output.weight", m.vocab_size, m.hidden_size, 3);
  }
  for (int64_t i = 0; i < m.num_layers; ++i) {
    AddGroup(families::RulesOf(family->list_layer), fmt::format("blk.{}.", i),
             m, &build);
    for (int64_t e = 0; e < m.moe.num_experts; ++e) {
      AddGroup(families::ExpertRules(*family),
               fmt::format("blk.{}.expert.{}.", i, e), m, &build);
    }
  }
  return lease;
}

std::unique_ptr<weights::ModelLease> MakeTinyModel(
    const TinyModelOptions& options) {
  return MakeTinyModelWithPoison(options, -1);
}

std::shared_ptr<const Tokenizer> MakeTinyTokenizer() {
  absl::StatusOr<std::unique_ptr<Tokenizer>> tokenizer =
      Tokenizer::Create(TinyTokenizerSpec());
  CHECK(tokenizer.ok(), "{}", Message(tokenizer.status()));
  return *std::move(tokenizer);
}

}  // namespace conclave::engine
