#include "expert_workers/weights/import_safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fmt/format.h>

#include <map>

#include "expert_workers/weights/hf_names.h"
#include "expert_workers/weights/safetensors_file.h"
#include "expert_workers/weights/test_files.h"

namespace conclave::weights {
namespace {

using ::testing::AllOf;
using testing::AsBytes;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string Container(std::string_view header, std::string_view data) {
  std::string file;
  testing::Append(&file, static_cast<uint64_t>(header.size()));
  file += header;
  file += data;
  return file;
}

absl::StatusOr<std::vector<SafetensorsTensor>> Parse(std::string_view bytes) {
  return ParseSafetensors(*FromMemory("t.safetensors", AsBytes(bytes)));
}

// A folder of a few kilobytes; tests change one file.
class TinyFolder {
 public:
  explicit TinyFolder(bool qwen = false) : qwen_(qwen) {
    files["config.json"] = fmt::format(
        R"({{"architectures": ["{}"], "hidden_size": 32,
        "intermediate_size": 64, "num_hidden_layers": 1,
        "num_attention_heads": 4, "num_key_value_heads": 2,
        "vocab_size": 8, "max_position_embeddings": 64, "rms_norm_eps": 1e-6,
        "rope_theta": 50000.0, "hidden_act": "silu",
        "tie_word_embeddings": true, "eos_token_id": [1, 3]}})",
        qwen ? "Qwen2ForCausalLM" : "LlamaForCausalLM");
    files["tokenizer.json"] = R"({"added_tokens": [
        {"id": 5, "content": "<|im_end|>", "special": true},
        {"id": 6, "content": "<tool>", "special": false}],
      "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
        {"type": "Digits", "individual_digits": true},
        {"type": "ByteLevel", "add_prefix_space": false, "use_regex": true}]},
      "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2, "c": 3,
        "d": 4}, "merges": ["a b", ["c", "d"]]}})";
    files["tokenizer_config.json"] =
        R"({"eos_token": {"content": "b"}, "bos_token": "a",
        "chat_template": "{{ hello }}"})";
    files["model.safetensors"] = Weights("", false);
  }

  // Tensors whose name contains `only`, as one file.
  std::string Weights(std::string_view only, bool except) const {
    std::vector<std::pair<std::string, std::vector<int>>> tensors = {
        {"model.embed_tokens.weight", {8, 32}},
        {"model.norm.weight", {32}},
        {"model.layers.0.input_layernorm.weight", {32}},
        {"model.layers.0.self_attn.q_proj.weight", {32, 32}},
        {"model.layers.0.self_attn.k_proj.weight", {16, 32}},
        {"model.layers.0.self_attn.v_proj.weight", {16, 32}},
        {"model.layers.0.self_attn.o_proj.weight", {32, 32}},
        {"model.layers.0.post_attention_layernorm.weight", {32}},
        {"model.layers.0.mlp.gate_proj.weight", {64, 32}},
        {"model.layers.0.mlp.up_proj.weight", {64, 32}},
        {"model.layers.0.mlp.down_proj.weight", {32, 64}},
    };
    if (qwen_) {
      tensors.push_back({"model.layers.0.self_attn.q_proj.bias", {32}});
      tensors.push_back({"model.layers.0.self_attn.k_proj.bias", {16}});
      tensors.push_back({"model.layers.0.self_attn.v_proj.bias", {16}});
    }
    std::string header = "{\"__metadata__\":{\"format\":\"pt\"}";
    std::string data;
    for (const auto& [name, shape] : tensors) {
      if ((name.find(only) != std::string::npos) == except) continue;
      int count = 1;
      for (const int side : shape) count *= side;
      header += fmt::format(
          R"(,"{}":{{"dtype":"F16","shape":[{}],"data_offsets":[{},{}]}})",
          name, fmt::join(shape, ","), data.size(),
          data.size() + 2 * static_cast<size_t>(count));
      data += std::string(2 * static_cast<size_t>(count), 0x11);
    }
    return Container(header + "}", data);
  }

  absl::StatusOr<ModelSource> Open() const {
    std::map<std::string, std::span<const std::byte>, std::less<>> spans;
    for (const auto& [name, text] : files) spans[name] = AsBytes(text);
    return OpenSafetensors(*FolderInMemory(std::move(spans)));
  }

  void Replace(const std::string& file, std::string_view from,
               std::string_view to) {
    std::string& text = files.at(file);
    const size_t at = text.find(from);
    ASSERT_NE(at, std::string::npos) << from;
    text.replace(at, from.size(), to);
  }

  std::map<std::string, std::string> files;

 private:
  const bool qwen_;
};

TEST(SafetensorsFile, ReadsTheDirectory) {
  const auto tensors = Parse(Container(
      R"({"b":{"dtype":"BF16","shape":[2,2],"data_offsets":[4,12]},
          "a":{"dtype":"F32","shape":[],"data_offsets":[0,4]},
          "__metadata__":{"k":"v"}})",
      std::string(12, 1)));
  ASSERT_TRUE(tensors.ok()) << tensors.status();
  ASSERT_EQ(tensors->size(), 2u);
  EXPECT_EQ((*tensors)[0].name, "b");
  EXPECT_EQ((*tensors)[0].bytes, 8);
  EXPECT_THAT((*tensors)[0].shape, ElementsAre(2, 2));
}

TEST(SafetensorsFile, EveryTruncationIsRefused) {
  const std::string whole = TinyFolder().files["model.safetensors"];
  ASSERT_TRUE(Parse(whole).ok());
  for (size_t size = 0; size < whole.size(); ++size) {
    ASSERT_EQ(Parse(std::string_view(whole).substr(0, size)).status().code(),
              absl::StatusCode::kInvalidArgument)
        << size;
  }
  EXPECT_FALSE(Parse(whole + "x").ok());
}

TEST(SafetensorsFile, LiesAreRefused) {
  const std::string data(16, 1);
  const char* const headers[] = {
      // Lengths, overflow, order.
      R"({"a":{"dtype":"F32","shape":[4],"data_offsets":[0,15]}})",
      R"({"a":{"dtype":"F32","shape":[5],"data_offsets":[0,16]}})",
      R"({"a":{"dtype":"F32","shape":[4],"data_offsets":[16,0]}})",
      R"({"a":{"dtype":"F32","shape":[4],"data_offsets":[16,32]}})",
      R"({"a":{"dtype":"F32","shape":[4294967296,4294967296],)"
      R"("data_offsets":[0,16]}})",
      R"({"a":{"dtype":"F32","shape":[4611686018427387905],)"
      R"("data_offsets":[0,4]}})",
      R"({"a":{"dtype":"F32","shape":[-4],"data_offsets":[0,16]}})",
      R"({"a":{"dtype":"F32","shape":[4.0],"data_offsets":[0,16]}})",
      // Holes, overlaps, names twice.
      R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[4,16]}})",
      R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[0,12]}})",
      R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[0,12]},)"
      R"("b":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}})",
      R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
      R"("a":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}})",
      // Another shape of JSON.
      R"({"a":{"dtype":"F32","shape":[4]}})",
      R"({"a":{"dtype":"F32","data_offsets":[0,16]}})",
      R"({"a":{"shape":[4],"data_offsets":[0,16]}})",
      R"({"a":{"dtype":"F32","shape":[[4]],"data_offsets":[0,16]}})",
      R"({"a":{"dtype":"F32","shape":[4],"data_offsets":[0,8,16]}})",
      R"({"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16],"x":1}})",
      R"({"a":[]})",
      R"({"a":null})",
      R"({"a":1})",
      R"({"__metadata__":{"a":{}}})",
      R"({"a")",
      R"({} {})",
  };
  for (const char* header : headers) {
    EXPECT_EQ(Parse(Container(header, data)).status().code(),
              absl::StatusCode::kInvalidArgument)
        << header;
  }
  EXPECT_EQ(Parse(Container(R"({"a":{"dtype":"I3","shape":[4],)"
                            R"("data_offsets":[0,16]}})",
                            data))
                .status()
                .code(),
            absl::StatusCode::kUnimplemented);
  // Depth costs nothing: no tree is built.
  std::string deep = R"({"a":)";
  for (int i = 0; i < 100000; ++i) deep += "[";
  EXPECT_FALSE(Parse(Container(deep, data)).ok());
  for (const uint64_t lie :
       {0ull, 1ull, 100'000'001ull, 1ull << 40, 0xffffffffffffffffull}) {
    std::string bad = Container("{}", data);
    std::memcpy(bad.data(), &lie, sizeof lie);
    EXPECT_FALSE(Parse(bad).ok()) << lie;
  }
}

TEST(ImportSafetensors, ReadsALlamaFolder) {
  const auto source = TinyFolder().Open();
  ASSERT_TRUE(source.ok()) << source.status();
  const ModelHyperparameters& model = source->spec.hyperparameters;
  EXPECT_EQ(model.architecture, "llama");
  EXPECT_EQ(model.head_dim, 8);
  EXPECT_EQ(model.rope_theta, 50000.0f);
  EXPECT_TRUE(model.tied_embeddings);
  const TokenizerSpec& tokenizer = source->spec.tokenizer;
  EXPECT_EQ(tokenizer.pre, "smollm");
  EXPECT_THAT(tokenizer.merges, ElementsAre("a b", "c d"));
  EXPECT_THAT(tokenizer.tokens, ElementsAre("a", "b", "ab", "c", "d",
                                            "<|im_end|>", "<tool>", "[PAD7]"));
  EXPECT_EQ(tokenizer.types[5], TokenType::kControl);
  EXPECT_EQ(tokenizer.types[6], TokenType::kUserDefined);
  EXPECT_EQ(tokenizer.types[7], TokenType::kUnused);
  EXPECT_EQ(tokenizer.eos_id, 1);
  EXPECT_EQ(tokenizer.bos_id, 0);
  EXPECT_FALSE(tokenizer.add_bos);
  EXPECT_THAT(tokenizer.end_of_turn_ids, ElementsAre(3, 5));
  EXPECT_EQ(source->spec.chat_template, "{{ hello }}");
  ASSERT_EQ(source->units.size(), 4u);
  EXPECT_EQ(source->units[1].tensors[1].name, "blk.0.attn_q.weight");
  EXPECT_EQ(source->units[1].tensors[1].type, kernels::QuantType::kF16);
  EXPECT_EQ(source->units[1].tensors[1].interleaved_head_dim, 0);
}

TEST(ImportSafetensors, ReadsShardsByTheirIndex) {
  TinyFolder folder(/*qwen=*/true);
  ASSERT_TRUE(folder.Open().ok()) << folder.Open().status();
  folder.files["a.safetensors"] = folder.Weights("mlp", false);
  folder.files["b.safetensors"] = folder.Weights("mlp", true);
  folder.files.erase("model.safetensors");
  const std::string index =
      R"({"weight_map": {"model.norm.weight": "b.safetensors",
      "model.layers.0.mlp.up_proj.weight": "a.safetensors"}})";
  folder.files["model.safetensors.index.json"] = index;
  const auto source = folder.Open();
  ASSERT_TRUE(source.ok()) << source.status();
  EXPECT_EQ(source->spec.hyperparameters.architecture, "qwen2");

  folder.Replace("model.safetensors.index.json", "\"b.safe", "\"../b.safe");
  EXPECT_EQ(folder.Open().status().code(), absl::StatusCode::kInvalidArgument);
  folder.files["model.safetensors.index.json"] = index;
  folder.Replace("model.safetensors.index.json", "\"b.safe", "\"c.safe");
  EXPECT_THAT(std::string(folder.Open().status().message()),
              HasSubstr("c.safetensors is missing"));
  folder.files["model.safetensors.index.json"] = index;
  folder.Replace("model.safetensors.index.json", "up_proj", "upp_roj");
  EXPECT_FALSE(folder.Open().ok());
  folder.files["model.safetensors.index.json"] = index;
  folder.files["a.safetensors"] = folder.Weights("", false);
  EXPECT_THAT(std::string(folder.Open().status().message()),
              HasSubstr("another shard"));
}

TEST(ImportSafetensors, RefusalsSayWhatIsSupported) {
  const struct {
    const char* file;
    const char* from;
    const char* to;
    absl::StatusCode code;
    const char* says;
  } cases[] = {
      {"config.json", "LlamaFor", "MambaFor", absl::StatusCode::kUnimplemented,
       "BertModel"},
      {"config.json", "\"silu\"", "\"gelu\"", absl::StatusCode::kUnimplemented,
       "silu"},
      {"config.json", "\"hidden_size\": 32,", "",
       absl::StatusCode::kInvalidArgument, "hidden_size"},
      {"config.json", "\"vocab_size\": 8", "\"vocab_size\": 6",
       absl::StatusCode::kInvalidArgument, "vocabulary"},
      {"config.json", "\"vocab_size\": 8", "\"vocab_size\": 1e99",
       absl::StatusCode::kInvalidArgument, "vocab_size"},
      {"config.json", "\"vocab_size\": 8", "\"vocab_size\": 100000000000",
       absl::StatusCode::kInvalidArgument, "vocab_size"},
      {"config.json", "\"num_attention_heads\": 4",
       "\"num_attention_heads\": 0", absl::StatusCode::kInvalidArgument,
       "num_attention_heads"},
      {"config.json", "[1, 3]", "[1, 99]", absl::StatusCode::kInvalidArgument,
       "eos_token_id"},
      {"config.json", "\"rope_theta\": 50000.0",
       "\"rope_scaling\": {\"type\": \"longrope\"}",
       absl::StatusCode::kUnimplemented, "llama3"},
      {"config.json", "\"rope_theta\": 50000.0",
       "\"rope_scaling\": {\"rope_type\": \"linear\"}",
       absl::StatusCode::kInvalidArgument, "factor"},
      {"config.json", "\"rope_theta\": 50000.0",
       "\"rope_scaling\": {\"rope_type\": \"linear\", \"factor\": -2}",
       absl::StatusCode::kInvalidArgument, "rope_factor is -2"},
      {"config.json", "\"rope_theta\": 50000.0",
       "\"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8, "
       "\"low_freq_factor\": 4}",
       absl::StatusCode::kInvalidArgument, "rope_high_freq_factor"},
      {"config.json", "\"rope_theta\": 50000.0",
       "\"rope_scaling\": {\"rope_type\": \"yarn\", \"factor\": 8, "
       "\"attention_factor\": 0}",
       absl::StatusCode::kInvalidArgument, "attention factor"},
      {"config.json", "\"rope_theta\": 50000.0",
       "\"partial_rotary_factor\": 0.5", absl::StatusCode::kUnimplemented,
       "whole heads"},
      {"config.json", "\"rope_theta\": 50000.0",
       "\"rope_parameters\": {\"sliding_attention\": {\"rope_theta\": 2}}",
       absl::StatusCode::kUnimplemented, "RoPE of their own"},
      {"config.json", "LlamaForCausalLM\"]",
       "MistralForCausalLM\"], \"sliding_window\": 0",
       absl::StatusCode::kInvalidArgument, "sliding window is 0"},
      {"config.json", "LlamaForCausalLM\"]",
       "MistralForCausalLM\"], \"sliding_window\": -5",
       absl::StatusCode::kInvalidArgument, "sliding window is -5"},
      {"config.json", "LlamaForCausalLM\"]",
       "Qwen3ForCausalLM\"], \"use_sliding_window\": true, \"layer_types\": "
       "[\"full_attention\", \"full_attention\"]",
       absl::StatusCode::kInvalidArgument, "list of 1"},
      {"config.json", "LlamaForCausalLM\"]",
       "Qwen3ForCausalLM\"], \"use_sliding_window\": true, \"layer_types\": "
       "[\"chunked_attention\"]",
       absl::StatusCode::kUnimplemented, "another kind"},
      {"config.json", "\"silu\"", "\"silu\", \"final_logit_softcapping\": 30.0",
       absl::StatusCode::kUnimplemented, "final_logit_softcapping"},
      {"config.json", "\"hidden_size\": 32", "\"hidden_size\": 48",
       absl::StatusCode::kUnimplemented, "width 48"},
      {"tokenizer.json", "Digits", "Whitespace",
       absl::StatusCode::kUnimplemented, "llama-bpe"},
      {"tokenizer.json", "\"BPE\"", "\"Unigram\"",
       absl::StatusCode::kUnimplemented, "WordPiece"},
      {"tokenizer.json", "\"a\": 0", "\"a\": 1",
       absl::StatusCode::kInvalidArgument, "id 1"},
      {"tokenizer.json", "\"a b\"", "\"ab\"",
       absl::StatusCode::kInvalidArgument, "merge"},
      {"tokenizer.json", "{", "[", absl::StatusCode::kInvalidArgument,
       "tokenizer.json"},
      {"tokenizer_config.json", "\"content\": \"b\"", "\"content\": \"x\"",
       absl::StatusCode::kInvalidArgument, "eos_token"},
      {"model.safetensors", "mlp.up_proj", "mlp.xp_proj",
       absl::StatusCode::kUnimplemented, "mlp.xp_proj"},
      {"model.safetensors", "\"F16\"", "\"I16\"",
       absl::StatusCode::kUnimplemented, "BF16"},
  };
  for (const auto& [file, from, to, code, says] : cases) {
    TinyFolder folder;
    folder.Replace(file, from, to);
    const auto source = folder.Open();
    EXPECT_EQ(source.status().code(), code)
        << from << " -> " << to << ": " << source.status();
    EXPECT_THAT(std::string(source.status().message()), HasSubstr(says));
  }
  for (const char* file :
       {"config.json", "tokenizer.json", "model.safetensors"}) {
    TinyFolder folder;
    folder.files.erase(file);
    const auto source = folder.Open();
    EXPECT_EQ(source.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(source.status().message()), HasSubstr(file));
  }
  TinyFolder missing;
  missing.files["model.safetensors"] = missing.Weights("k_proj", true);
  EXPECT_THAT(std::string(missing.Open().status().message()),
              AllOf(HasSubstr("blk.0.attn_k.weight"), HasSubstr("missing")));
  TinyFolder untied;
  untied.Replace("config.json", "\"tie_word_embeddings\": true",
                 "\"tie_word_embeddings\": false");
  EXPECT_THAT(std::string(untied.Open().status().message()),
              HasSubstr("lm_head.weight"));
}

TEST(ImportSafetensors, EveryTruncatedJsonIsRefused) {
  for (const char* file : {"config.json", "tokenizer.json"}) {
    TinyFolder folder;
    const std::string whole = folder.files[file];
    for (size_t size = 0; size < whole.size(); ++size) {
      folder.files[file] = whole.substr(0, size);
      ASSERT_FALSE(folder.Open().ok()) << file << " " << size;
    }
  }
}

TEST(HfNames, TranslateByFamily) {
  const HfNames llama(*families::FindFamily("llama"));
  EXPECT_EQ(llama.Translate("model.layers.12.mlp.down_proj.weight"),
            "blk.12.ffn_down.weight");
  EXPECT_EQ(llama.Translate("model.layers.1.post_attention_layernorm.weight"),
            "blk.1.ffn_norm.weight");
  EXPECT_EQ(llama.Translate("lm_head.weight"), "output.weight");
  EXPECT_EQ(llama.Translate("model.layers.1.self_attn.rotary_emb.inv_freq"),
            "");
  EXPECT_EQ(llama.Translate("model.layers.x.mlp.down_proj.weight"),
            std::nullopt);
  EXPECT_EQ(llama.Translate("model.layers.1.mlp.down_proj.scale"),
            std::nullopt);
  EXPECT_EQ(llama.Translate(""), std::nullopt);
  const HfNames gemma(*families::FindFamily("gemma3"));
  EXPECT_EQ(gemma.Translate("model.layers.1.post_attention_layernorm.weight"),
            "blk.1.post_attention_norm.weight");
  const HfNames bert(*families::FindFamily("bert"));
  EXPECT_EQ(bert.Translate("bert.encoder.layer.3.attention.output.dense.bias"),
            "blk.3.attn_output.bias");
  EXPECT_EQ(bert.Translate("encoder.layer.0.output.LayerNorm.weight"),
            "blk.0.layer_output_norm.weight");
  EXPECT_EQ(bert.Translate("embeddings.position_ids"), "");
}

}  // namespace
}  // namespace conclave::weights
