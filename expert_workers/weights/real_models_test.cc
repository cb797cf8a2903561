// The real models through import, store and RAM tier, value by value against
// what transformers and safetensors read from the same files
// (tests/golden/weights/rows.txt).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <sstream>

#include "expert_workers/weights/ram_tier.h"
#include "expert_workers/weights/test_files.h"
#include "expert_workers/weights/weight_store.h"

namespace conclave::weights {
namespace {

struct GoldenRow {
  std::string tensor;
  int64_t row = 0;
  std::vector<std::pair<size_t, float>> values;  // column, value
};

std::vector<GoldenRow> ReadGolden(const std::string& model) {
  std::ifstream file("tests/golden/weights/rows.txt");
  std::vector<GoldenRow> rows;
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string of;
    GoldenRow row;
    words >> of >> row.tensor >> row.row;
    if (of != model) continue;
    for (std::string cell; words >> cell;) {
      const size_t colon = cell.find(':');
      row.values.emplace_back(std::stoul(cell.substr(0, colon)),
                              std::strtof(cell.c_str() + colon + 1, nullptr));
    }
    rows.push_back(std::move(row));
  }
  return rows;
}

class RealModel : public ::testing::TestWithParam<std::string> {};

TEST_P(RealModel, HoldsTheValuesThatOthersRead) {
  const std::string path = testing::RealModel(GetParam());
  if (path.empty()) GTEST_SKIP() << GetParam() << " is not on this machine";
  const std::vector<GoldenRow> golden = ReadGolden(GetParam());
  ASSERT_GT(golden.size(), 50u);

  const testing::TempDir directory;
  auto store = WeightStore::Open({.path = directory / "store"});
  ASSERT_TRUE(store.ok()) << store.status();
  int64_t last = 0;
  const auto entry =
      (*store)->Import(path, "model", [&last](int64_t done, int64_t total) {
        EXPECT_LE(last, done);
        EXPECT_LE(done, total);
        last = done;
        return absl::OkStatus();
      });
  ASSERT_TRUE(entry.ok()) << entry.status();
  EXPECT_EQ(last, entry->total_bytes);
  const auto manifest = (*store)->Manifest("model");
  ASSERT_TRUE(manifest.ok()) << manifest.status();

  const auto tier = RamTier::Create(store->get(), int64_t{1} << 30);
  const auto lease = tier->Acquire(*manifest, absl::InfiniteFuture());
  ASSERT_TRUE(lease.ok()) << lease.status();
  for (GoldenRow row : golden) {
    // A tied head is the embedding.
    if (row.tensor == "output.weight" && !(*lease)->Has(row.tensor)) {
      EXPECT_TRUE((*manifest)->spec.hyperparameters.tied_embeddings);
      row.tensor = "token_embd.weight";
    }
    std::vector<float> values;
    if (const auto vector = (*lease)->Vector(row.tensor); vector.ok()) {
      ASSERT_EQ(row.row, 0);
      values.assign(vector->begin(), vector->end());
    } else {
      const auto matrix = (*lease)->Matrix(row.tensor);
      ASSERT_TRUE(matrix.ok()) << matrix.status();
      values.resize(static_cast<size_t>(matrix->cols));
      kernels::UnpackRow(*matrix, row.row, values.data());
    }
    for (const auto& [col, value] : row.values) {
      ASSERT_EQ(values.at(col), value)
          << row.tensor << " row " << row.row << " column " << col;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    All, RealModel,
    ::testing::Values("SmolLM2-135M-Instruct.Q4_1.gguf",
                      "Qwen2.5-Coder-0.5B-Instruct.Q4_K_M.gguf",
                      "all-MiniLM-L6-v2"),
    [](const auto& which) {
      return which.param.starts_with("all-") ? std::string("MiniLM")
                                             : which.param.substr(0, 4);
    });

TEST(RealModelSpec, SmolLm2) {
  const std::string path =
      testing::RealModel("SmolLM2-135M-Instruct.Q4_1.gguf");
  if (path.empty()) GTEST_SKIP() << "SmolLM2 is not on this machine";
  const testing::TempDir directory;
  auto store = WeightStore::Open({.path = directory / "store"});
  ASSERT_TRUE(store.ok());
  const auto entry = (*store)->Import(path, "chat", nullptr);
  ASSERT_TRUE(entry.ok()) << entry.status();
  EXPECT_EQ(entry->architecture, "llama");
  EXPECT_EQ(entry->source, "SmolLM2-135M-Instruct.Q4_1.gguf");
  EXPECT_EQ(entry->parameters, 134515008);
  const auto manifest = *(*store)->Manifest(entry->version);
  // What sha256sum prints.
  EXPECT_EQ(manifest->source_digest,
            "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53");
  const ModelHyperparameters& model = manifest->spec.hyperparameters;
  EXPECT_EQ(model.num_layers, 30);
  EXPECT_EQ(model.num_kv_heads, 3);
  EXPECT_EQ(model.head_dim, 64);
  EXPECT_EQ(model.rope_theta, 100000.0f);
  EXPECT_TRUE(model.tied_embeddings);
  const TokenizerSpec& tokenizer = manifest->spec.tokenizer;
  EXPECT_EQ(tokenizer.tokens.size(), 49152u);
  EXPECT_EQ(tokenizer.merges.size(), 48900u);
  EXPECT_EQ(tokenizer.eos_id, 2);
  EXPECT_THAT(tokenizer.end_of_turn_ids, ::testing::ElementsAre(0));
  EXPECT_FALSE(tokenizer.add_bos);
}

TEST(RealModelSpec, MiniLm) {
  const std::string path = testing::RealModel("all-MiniLM-L6-v2");
  if (path.empty()) GTEST_SKIP() << "MiniLM is not on this machine";
  const testing::TempDir directory;
  auto store = WeightStore::Open({.path = directory / "store"});
  ASSERT_TRUE(store.ok());
  const auto entry = (*store)->Import(path, "encoder", nullptr);
  ASSERT_TRUE(entry.ok()) << entry.status();
  EXPECT_EQ(entry->source, "all-MiniLM-L6-v2");
  const auto manifest = *(*store)->Manifest("encoder");
  EXPECT_EQ(manifest->spec.hyperparameters.architecture, "bert");
  EXPECT_EQ(manifest->spec.hyperparameters.num_layers, 6);
  EXPECT_EQ(manifest->spec.hyperparameters.max_context, 512);
  const TokenizerSpec& tokenizer = manifest->spec.tokenizer;
  EXPECT_EQ(tokenizer.kind, TokenizerKind::kWordPiece);
  EXPECT_TRUE(tokenizer.lowercase);
  EXPECT_EQ(tokenizer.cls_id, 101);
  EXPECT_EQ(tokenizer.sep_id, 102);
  EXPECT_EQ(tokenizer.unk_id, 100);
  EXPECT_EQ(tokenizer.pad_id, 0);
  EXPECT_EQ(tokenizer.tokens.size(), 30522u);
  EXPECT_EQ(tokenizer.tokens[101], "[CLS]");
}

}  // namespace
}  // namespace conclave::weights
