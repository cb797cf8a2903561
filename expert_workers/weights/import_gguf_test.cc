#include "expert_workers/weights/import_gguf.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "expert_workers/weights/test_files.h"

namespace conclave::weights {
namespace {

using ::testing::AllOf;
using testing::AsBytes;
using ::testing::ElementsAre;
using testing::GgufBuilder;
using ::testing::HasSubstr;
using testing::TinyModel;

absl::StatusOr<ModelSource> Open(const std::string& bytes) {
  return OpenGguf(FromMemory("tiny.gguf", AsBytes(bytes)));
}

std::string MessageOf(const absl::StatusOr<ModelSource>& source) {
  return std::string(source.status().message());
}

TEST(ImportGguf, ReadsTheSpec) {
  const std::string file = TinyModel().Build();
  const auto source = Open(file);
  ASSERT_TRUE(source.ok()) << source.status();
  const ModelHyperparameters& model = source->spec.hyperparameters;
  EXPECT_EQ(model.architecture, "llama");
  EXPECT_EQ(model.num_layers, 2);
  EXPECT_EQ(model.head_dim, 16);
  EXPECT_EQ(model.num_kv_heads, 2);
  EXPECT_EQ(model.vocab_size, 40);
  EXPECT_EQ(model.max_context, 128);
  EXPECT_EQ(model.rope_theta, 10000.0f);
  EXPECT_TRUE(model.tied_embeddings);
  const TokenizerSpec& tokenizer = source->spec.tokenizer;
  EXPECT_EQ(tokenizer.pre, "smollm");
  EXPECT_EQ(tokenizer.eos_id, 0);
  EXPECT_EQ(tokenizer.bos_id, -1);
  // <|im_end|>, by its text; <|endoftext|> is the EOS itself.
  EXPECT_THAT(tokenizer.end_of_turn_ids, ElementsAre(2));
  EXPECT_EQ(tokenizer.types[1], TokenType::kControl);
  EXPECT_EQ(source->spec.chat_template, "{{ messages }}");
  ASSERT_EQ(source->units.size(), 6u);
  EXPECT_EQ(source->units[0].name, "embedding");
  EXPECT_EQ(source->units[3].name, "layer.1");
  EXPECT_EQ(source->units[4].name, "layer.1.ffn");
  EXPECT_EQ(source->units[5].name, "head");
  EXPECT_EQ(source->units[3].tensors.size(), 6u);
  EXPECT_EQ(source->units[4].tensors.size(), 3u);
}

TEST(ImportGguf, EveryTensorOfTheFamilyIsNeeded) {
  for (const char* name :
       {"token_embd.weight", "blk.0.attn_norm.weight", "blk.1.attn_q.weight",
        "blk.1.ffn_down.weight", "output_norm.weight"}) {
    TinyModel tiny;
    tiny.without = name;
    const auto source = Open(tiny.Build());
    EXPECT_EQ(source.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(MessageOf(source),
                AllOf(HasSubstr(name), HasSubstr("missing")));
  }
  TinyModel tiny;
  tiny.architecture = "qwen2";
  ASSERT_TRUE(Open(tiny.Build()).ok());
  tiny.without = "blk.0.attn_k.bias";
  EXPECT_THAT(MessageOf(Open(tiny.Build())), HasSubstr("blk.0.attn_k.bias"));
}

TEST(ImportGguf, WrongShapesAndUnknownTensorsAreRefused) {
  TinyModel tiny;
  tiny.without = "blk.0.ffn_up.weight";
  tiny.more = [](GgufBuilder* file) {
    file->Tensor("blk.0.ffn_up.weight", 0, {64, 95},
                 testing::Floats(64 * 95, 1));
  };
  EXPECT_THAT(MessageOf(Open(tiny.Build())),
              AllOf(HasSubstr("95 by 64"), HasSubstr("96 by 64")));

  tiny = TinyModel();
  tiny.more = [](GgufBuilder* file) {
    file->Tensor("blk.0.attn_q_norm.weight", 0, {16}, testing::Floats(16, 1));
  };
  const auto extra = Open(tiny.Build());
  EXPECT_EQ(extra.status().code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(MessageOf(extra), HasSubstr("blk.0.attn_q_norm.weight"));
}

TEST(ImportGguf, UnknownKindsSayWhatIsSupported) {
  TinyModel tiny;
  tiny.architecture = "mamba";
  const auto architecture = Open(tiny.Build());
  EXPECT_EQ(architecture.status().code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(
      MessageOf(architecture),
      AllOf(HasSubstr("mamba"), HasSubstr("gemma3, llama, mixtral, olmoe")));

  std::string file = TinyModel().Build();
  file.replace(file.find("smollm"), 6, "smollx");
  const auto pre = Open(file);
  EXPECT_EQ(pre.status().code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(MessageOf(pre),
              AllOf(HasSubstr("smollx"), HasSubstr("llama-bpe")));

  tiny = TinyModel();
  tiny.architecture = "qwen2";
  tiny.more = [](GgufBuilder* more) { more->Int("qwen2.expert_count", 8); };
  const auto experts = Open(tiny.Build());
  EXPECT_EQ(experts.status().code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(MessageOf(experts), HasSubstr("\"qwen2\" with experts"));
}

// A llama with experts is Mixtral: its tensors are others.
TEST(ImportGguf, LyingNumbersOfExpertsAreRefused) {
  const struct {
    uint32_t count, used;
    const char* says;
  } cases[] = {{8, 0, "experts_per_token is 0"},
               {8, 9, "experts_per_token is 9; it must be 1..8"},
               {0xffffffffu, 2, "num_experts"},
               {8, 2, "ffn_gate_inp.weight is missing"}};
  for (const auto& lie : cases) {
    TinyModel tiny;
    tiny.more = [&](GgufBuilder* file) {
      file->Int("llama.expert_count", lie.count);
      file->Int("llama.expert_used_count", lie.used);
    };
    const auto refused = Open(tiny.Build());
    EXPECT_EQ(refused.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(MessageOf(refused), HasSubstr(lie.says));
  }
  // A stack of another number of experts than the keys say.
  TinyModel tiny;
  tiny.more = [](GgufBuilder* file) {
    file->Int("llama.expert_count", 4);
    file->Int("llama.expert_used_count", 2);
    file->Tensor("blk.0.ffn_gate_exps.weight", 0, {32, 32, 3},
                 std::string(32 * 32 * 3 * 4, '\0'));
  };
  EXPECT_THAT(MessageOf(Open(tiny.Build())),
              HasSubstr("ffn_gate_exps.weight has 3 experts; the model has 4"));
}

TEST(ImportGguf, HostileNumbersAreRefused) {
  const struct {
    const char* key;
    uint32_t value;
  } cases[] = {{"llama.attention.key_length", 3},
               {"llama.attention.key_length", 0},
               {"llama.attention.key_length", 0xffffffffu},
               {"llama.rope.dimension_count", 8},
               {"tokenizer.ggml.bos_token_id", 40},
               {"tokenizer.ggml.eot_token_id", 0x7fffffffu}};
  for (const auto& [key, value] : cases) {
    TinyModel tiny;
    tiny.more = [key = key, value = value](GgufBuilder* file) {
      file->Int(key, value);
    };
    EXPECT_FALSE(Open(tiny.Build()).ok()) << key << " " << value;
  }
  for (uint32_t TinyModel::*field :
       {&TinyModel::num_layers, &TinyModel::heads, &TinyModel::kv_heads}) {
    // The numbers in the metadata lie; the tensors stay as they are.
    const std::string good = TinyModel().Build();
    TinyModel lying;
    lying.*field = 3;
    const std::string bad = lying.Build();
    const size_t data = good.find("token_embd.weight");
    const std::string mixed =
        bad.substr(0, bad.find("token_embd.weight")) + good.substr(data);
    EXPECT_FALSE(Open(mixed).ok());
  }
}

TinyModel TinyGemma() {
  TinyModel tiny;
  tiny.architecture = "gemma3";
  tiny.num_layers = 7;
  tiny.sentencepiece = true;
  return tiny;
}

// `change` adds keys to TinyGemma's own.
absl::StatusOr<ModelSource> OpenGemma(
    const std::function<void(GgufBuilder*)>& change,
    const std::function<void(TinyModel*)>& alter = nullptr) {
  TinyModel tiny = TinyGemma();
  tiny.more = change;
  if (alter) alter(&tiny);
  return Open(tiny.Build());
}

void Window512(GgufBuilder* file) {
  file->Int("gemma3.attention.sliding_window", 512);
}

TEST(ImportGguf, ReadsAGemma) {
  const auto source = OpenGemma([](GgufBuilder* file) {
    Window512(file);
    file->Float("gemma3.rope.freq_base", 1e6f);
    file->Text("gemma3.rope.scaling.type", "linear");
    file->Float("gemma3.rope.scaling.factor", 8.0f);
    file->Bool("tokenizer.ggml.add_space_prefix", false);
  });
  ASSERT_TRUE(source.ok()) << source.status();
  const ModelHyperparameters& model = source->spec.hyperparameters;
  EXPECT_THAT(model.layer_windows,
              ElementsAre(512, 512, 512, 512, 512, 0, 512));
  EXPECT_EQ(model.rope_theta, 1e6f);
  EXPECT_EQ(model.rope_local_theta, 1e4f);
  EXPECT_EQ(model.rope_scaling, "linear");
  EXPECT_EQ(model.attention_scale, 0.0f);
  EXPECT_TRUE(model.tied_embeddings);
  const TokenizerSpec& tokenizer = source->spec.tokenizer;
  EXPECT_EQ(tokenizer.kind, TokenizerKind::kSentencePiece);
  EXPECT_FALSE(tokenizer.add_space_prefix);
  EXPECT_EQ(tokenizer.unk_id, 2);
  EXPECT_EQ(tokenizer.bos_id, 1);  // the usual one
  EXPECT_EQ(source->units[1].tensors.size(), 10u);
  EXPECT_EQ(source->units[1].tensors[0].plus, 0.0f);
}

TEST(ImportGguf, HostileGemmasAreRefused) {
  const struct {
    const char* says;
    std::function<void(GgufBuilder*)> change;
    std::function<void(TinyModel*)> alter;
  } cases[] = {
      {"gemma3.attention.sliding_window is missing", nullptr, nullptr},
      {"sliding window is 0",
       [](GgufBuilder* f) { f->Int("gemma3.attention.sliding_window", 0); },
       nullptr},
      {"sliding window is 4294967295",
       [](GgufBuilder* f) { f->Int("gemma3.attention.sliding_window", ~0u); },
       nullptr},
      {"pattern is 0",
       [](GgufBuilder* f) {
         Window512(f);
         f->Int("gemma3.attention.sliding_window_pattern", 0);
       },
       nullptr},
      {"final_logit_softcapping",
       [](GgufBuilder* f) {
         Window512(f);
         f->Float("gemma3.final_logit_softcapping", 30.0f);
       },
       nullptr},
      {"rope_local_theta is",
       [](GgufBuilder* f) {
         Window512(f);
         f->Float("gemma3.rope.freq_base_swa", -1.0f);
       },
       nullptr},
      {"blk.3.post_ffw_norm.weight is missing", Window512,
       [](TinyModel* m) { m->without = "blk.3.post_ffw_norm.weight"; }},
      {"blk.0.attn_q_norm.weight is 1 by 17",
       [](GgufBuilder* f) {
         Window512(f);
         f->Tensor("blk.0.attn_q_norm.weight", 0, {17}, testing::Floats(17, 1));
       },
       [](TinyModel* m) { m->without = "blk.0.attn_q_norm.weight"; }},
      {"40 tokens, but 39 scores", Window512,
       [](TinyModel* m) { m->num_scores = 39; }},
      {"40 tokens, but 0 scores", Window512,
       [](TinyModel* m) { m->num_scores = 0; }},
      {"precompiled_charsmap",
       [](GgufBuilder* f) {
         Window512(f);
         f->Ints("tokenizer.ggml.precompiled_charsmap", {1});
       },
       nullptr},
  };
  for (const auto& [says, change, alter] : cases) {
    const auto source = OpenGemma(change, alter);
    ASSERT_FALSE(source.ok()) << says;
    EXPECT_THAT(MessageOf(source), HasSubstr(says));
  }
}

TEST(ImportGguf, BadRopesAreRefused) {
  const struct {
    const char* says;
    std::function<void(GgufBuilder*)> change;
  } cases[] = {
      {"rope_factor is 0",
       [](GgufBuilder* f) { f->Float("llama.rope.scaling.factor", 0); }},
      {"rope_factor is -4",
       [](GgufBuilder* f) { f->Float("llama.rope.scaling.factor", -4); }},
      {"rope_factor is 0.5",
       [](GgufBuilder* f) { f->Float("llama.rope.scaling.factor", 0.5f); }},
      {"rope_factor is nan",
       [](GgufBuilder* f) {
         f->Float("llama.rope.scaling.factor", std::nanf(""));
       }},
      {"rope_theta is inf",
       [](GgufBuilder* f) {
         f->Float("llama.rope.freq_base",
                  std::numeric_limits<float>::infinity());
       }},
      {"rope_theta is 1",
       [](GgufBuilder* f) { f->Float("llama.rope.freq_base", 1); }},
      {"longrope",
       [](GgufBuilder* f) { f->Text("llama.rope.scaling.type", "longrope"); }},
      {"rope_beta_fast is 1",
       [](GgufBuilder* f) {
         f->Text("llama.rope.scaling.type", "yarn");
         f->Float("llama.rope.scaling.factor", 4);
         f->Float("llama.rope.scaling.yarn_beta_fast", 1);
       }},
      {"yarn_ext_factor",
       [](GgufBuilder* f) {
         f->Text("llama.rope.scaling.type", "yarn");
         f->Float("llama.rope.scaling.factor", 4);
         f->Float("llama.rope.scaling.yarn_ext_factor", 0.5f);
       }},
      {"no original context",
       [](GgufBuilder* f) {
         f->Text("llama.rope.scaling.type", "yarn");
         f->Float("llama.rope.scaling.factor", 4);
         f->Int("llama.rope.scaling.original_context_length", 0);
       }},
      {"sliding window is 0",
       [](GgufBuilder* f) { f->Int("llama.attention.sliding_window", 0); }},
  };
  for (const auto& [says, change] : cases) {
    TinyModel tiny;
    tiny.more = change;
    const auto source = Open(tiny.Build());
    ASSERT_FALSE(source.ok()) << says;
    EXPECT_THAT(MessageOf(source), HasSubstr(says));
  }
}

// GGUF holds a llama's Q and K rows as x0 y0 x1 y1 ..; the kernels want
// x0 x1 .. y0 y1 ...
TEST(ImportGguf, UndoesTheRopePermutation) {
  TinyModel tiny;
  tiny.matrix_type = kernels::QuantType::kF32;
  tiny.without = "blk.0.attn_k.weight";
  constexpr int kHeadDim = 16;
  constexpr int kRows = 32;
  std::string data;
  for (int row = 0; row < kRows; ++row) {
    // What row the matrix had before conversion.
    const int head = row / kHeadDim;
    const int within = row % kHeadDim;
    const int original =
        head * kHeadDim + (within % 2) * (kHeadDim / 2) + within / 2;
    for (int col = 0; col < 64; ++col) {
      testing::Append(&data, static_cast<float>(original * 100 + col));
    }
  }
  tiny.more = [&data](GgufBuilder* file) {
    file->Tensor("blk.0.attn_k.weight", 0, {64, kRows}, data);
  };
  const std::string file = tiny.Build();
  const auto source = Open(file);
  ASSERT_TRUE(source.ok()) << source.status();
  const SourceTensor& tensor = source->units[1].tensors[2];
  ASSERT_EQ(tensor.name, "blk.0.attn_k.weight");
  std::vector<float> rows(kRows * 64);
  ASSERT_TRUE(ReadRows(*source, tensor, 0, kRows,
                       std::as_writable_bytes(std::span(rows)))
                  .ok());
  for (int row = 0; row < kRows; ++row) {
    for (int col = 0; col < 64; ++col) {
      ASSERT_EQ(rows[static_cast<size_t>(row * 64 + col)], row * 100 + col);
    }
  }
  // Any window of rows is the same window of the whole.
  std::vector<float> window(5 * 64);
  ASSERT_TRUE(ReadRows(*source, tensor, 13, 5,
                       std::as_writable_bytes(std::span(window)))
                  .ok());
  EXPECT_EQ(window[0], 1300);
  EXPECT_EQ(window[4 * 64], 1700);

  tiny.architecture = "qwen2";
  const std::string qwen = tiny.Build();
  const auto same = Open(qwen);
  ASSERT_TRUE(same.ok()) << same.status();
  EXPECT_EQ(same->units[1].tensors[3].interleaved_head_dim, 0);
}

TEST(ImportGguf, RopeFactorsAreDivisors) {
  std::vector<float> factors = {1, 1, 1, 1.5f, 4, 32, 32, 32};
  const auto open = [&factors](kernels::QuantType type) {
    TinyModel tiny;
    tiny.more = [&](GgufBuilder* file) {
      std::string data;
      for (const float f : factors) testing::Append(&data, f);
      file->Tensor("rope_freqs.weight", static_cast<uint32_t>(type), {8}, data);
    };
    return Open(tiny.Build());
  };
  const auto source = open(kernels::QuantType::kF32);
  ASSERT_TRUE(source.ok()) << source.status();
  EXPECT_EQ(source->spec.hyperparameters.rope_scaling, "");
  EXPECT_EQ(source->units[0].tensors[1].name, "rope_freqs.weight");
  for (const float bad :
       {0.0f, -1.0f, std::nanf(""), std::numeric_limits<float>::infinity()}) {
    factors[3] = bad;
    EXPECT_THAT(MessageOf(open(kernels::QuantType::kF32)),
                HasSubstr("rope_freqs.weight[3]"));
  }
  EXPECT_THAT(MessageOf(open(kernels::QuantType::kF16)), HasSubstr("F32"));
}

}  // namespace
}  // namespace conclave::weights
