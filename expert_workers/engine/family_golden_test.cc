// Small random models of every family, from safetensors and from GGUF, against
// transformers' logits (tests/golden/families): through import, store and
// memory, as a real one would go.
#include <fmt/core.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "expert_workers/engine/engine.h"
#include "expert_workers/engine/forward/bert.h"
#include "expert_workers/engine/forward/language_model.h"
#include "expert_workers/engine/run_requests.h"
#include "expert_workers/weights/hf_names.h"
#include "expert_workers/weights/test_files.h"
#include "expert_workers/weights/weight_store.h"

namespace conclave::engine {
namespace {

using weights::testing::TempDir;
using Json = nlohmann::json;

// make_golden.py's formula.
std::vector<float> Values(const std::string& name, const Json& golden) {
  uint64_t seed = 0xCBF29CE484222325;
  for (const char c : name) {
    seed = (seed ^ static_cast<uint8_t>(c)) * 0x100000001B3;
  }
  const Json& shape = golden["tensors"][name];
  size_t count = 1;
  for (const auto& side : shape) count *= side.get<size_t>();
  const bool norm = name.find("norm") != std::string::npos ||
                    name.ends_with("LayerNorm.weight");
  const bool matrix =
      shape.size() == 2 && name.find("embed_tokens") == std::string::npos;
  std::vector<float> values;
  for (uint64_t i = 0; i < count; ++i) {
    uint64_t x = seed + i * 0x9E3779B97F4A7C15;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB;
    x ^= x >> 31;
    float unit = (static_cast<float>(x >> 52) - 2048) / 2048;
    if (norm || matrix) unit *= 0.25f;
    values.push_back(norm ? golden["norm_centre"].get<float>() + unit : unit);
  }
  return values;
}

template <typename T>
std::string BytesOf(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()),
          values.size() * sizeof(T)};
}

std::vector<uint16_t> Halves(const std::vector<float>& values) {
  std::vector<uint16_t> halves;
  for (const float v : values) halves.push_back(kernels::FloatToHalf(v));
  return halves;
}

// Matrices in half precision, which holds them exactly; vectors in full.
void WriteSafetensors(const Json& golden, const std::string& path) {
  Json header = Json::object();
  std::string data;
  for (const auto& [name, shape] : golden["tensors"].items()) {
    const size_t begin = data.size();
    const std::vector<float> values = Values(name, golden);
    data += shape.size() == 2 ? BytesOf(Halves(values)) : BytesOf(values);
    header[name] = {{"dtype", shape.size() == 2 ? "F16" : "F32"},
                    {"shape", shape},
                    {"data_offsets", {begin, data.size()}}};
  }
  const std::string text = header.dump();
  std::string file;
  weights::testing::Append(&file, static_cast<uint64_t>(text.size()));
  weights::testing::WriteFile(path, file + text + data);
}

// The tokenizer is of the right kind and otherwise never used.
constexpr char kByteLevel[] = R"({"pre_tokenizer": {"type": "ByteLevel"},
    "model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}})";
constexpr char kWordPiece[] = R"({"model": {"type": "WordPiece", "vocab":
    {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "a": 4}}})";

void WriteFolder(const Json& golden, const Json& config,
                 const std::string& path, const char* tokenizer = kByteLevel) {
  std::filesystem::create_directory(path);
  WriteSafetensors(golden, path + "/model.safetensors");
  weights::testing::WriteFile(path + "/config.json", config.dump());
  weights::testing::WriteFile(path + "/tokenizer.json", tokenizer);
}

// Rows as GGUF's llama files have them: each head's halves interleaved.
std::vector<float> Interleaved(const std::vector<float>& values, size_t cols,
                               size_t head_dim) {
  std::vector<float> out(values.size());
  for (size_t row = 0; row * cols < values.size(); ++row) {
    const size_t within = row % head_dim;
    const size_t half = within % 2 * (head_dim / 2);
    const size_t from = row - within + half + within / 2;
    std::copy_n(values.begin() + static_cast<ptrdiff_t>(from * cols), cols,
                out.begin() + static_cast<ptrdiff_t>(row * cols));
  }
  return out;
}

// A layer's experts in one tensor, as GGUF has them.
struct Stack {
  std::vector<uint64_t> dims;  // of one
  std::map<int, std::string> experts;
};

void WriteGguf(const Json& golden, const std::string& path) {
  const Json& gguf = golden["gguf"];
  const Json& keys = gguf["keys"];
  const auto architecture = gguf["architecture"].get<std::string>();
  weights::testing::GgufBuilder file;
  file.Text("general.architecture", architecture);
  for (const auto& [key, value] : keys.items()) {
    const std::string name = architecture + "." + key;
    if (value.is_string()) file.Text(name, value.get<std::string>());
    if (value.is_number_float()) file.Float(name, value.get<float>());
    if (value.is_number_integer()) file.Int(name, value.get<uint32_t>());
  }
  std::vector<std::string> tokens = {"a"};
  while (tokens.size() < golden["config"]["vocab_size"].get<size_t>()) {
    tokens.push_back(fmt::format("[PAD{}]", tokens.size()));
  }
  file.Text("tokenizer.ggml.model", "gpt2");
  file.Text("tokenizer.ggml.pre", "gpt2");
  file.Strings("tokenizer.ggml.tokens", tokens);
  file.Strings("tokenizer.ggml.merges", {});

  const auto heads = keys["attention.head_count"].get<size_t>();
  const auto head_dim = keys.value(
      "attention.key_length", keys["embedding_length"].get<size_t>() / heads);
  const weights::HfNames names(
      *families::FindGgufFamily(architecture, keys.contains("expert_count")));
  std::map<std::string, Stack> stacks;
  for (const auto& [name, shape] : golden["tensors"].items()) {
    std::vector<float> values = Values(name, golden);
    const bool norm = name.find("norm") != std::string::npos;
    for (float& v : values)
      v += norm ? 1 - golden["norm_centre"].get<float>() : 0;
    const bool matrix = shape.size() == 2;
    const size_t cols = matrix ? shape[1].get<size_t>() : 1;
    if (architecture == "llama" && (name.find("q_proj") != std::string::npos ||
                                    name.find("k_proj") != std::string::npos)) {
      values = Interleaved(values, cols, head_dim);
    }
    auto dims = shape.get<std::vector<uint64_t>>();
    std::ranges::reverse(dims);
    const auto type =
        matrix ? kernels::QuantType::kF16 : kernels::QuantType::kF32;
    const std::string bytes =
        matrix ? BytesOf(Halves(values)) : BytesOf(values);
    std::string translated = names.Translate(name).value();
    if (const size_t expert = translated.find(".expert.");
        expert != std::string::npos) {
      const size_t number = expert + 8;
      const size_t dot = translated.find('.', number);
      Stack& stack =
          stacks[translated.substr(0, expert) + translated.substr(dot)];
      stack.dims = dims;
      stack.experts[std::stoi(translated.substr(number))] = bytes;
      continue;
    }
    if (translated.ends_with("gate_inp_shexp.weight")) {  // a vector there
      file.Tensor(translated, 0, {dims[0]}, BytesOf(values));
      continue;
    }
    file.Tensor(translated, static_cast<uint32_t>(type), dims, bytes);
  }
  for (const auto& [name, stack] : stacks) {
    std::vector<uint64_t> dims = stack.dims;
    dims.push_back(stack.experts.size());
    std::string bytes;
    for (const auto& [number, expert] : stack.experts) bytes += expert;
    file.Tensor(name, static_cast<uint32_t>(kernels::QuantType::kF16), dims,
                bytes);
  }
  if (gguf.contains("rope_factors")) {
    const auto factors = gguf["rope_factors"].get<std::vector<float>>();
    file.Tensor("rope_freqs.weight", 0, {factors.size()}, BytesOf(factors));
  }
  weights::testing::WriteFile(path, file.Build());
}

// Logits of every row of `ids`, read in pieces of `chunk` tokens.
std::vector<float> LogitsOf(const weights::ModelLease& lease,
                            const kernels::Ops& ops, kernels::KvType kv_type,
                            const std::vector<int32_t>& ids, size_t chunk) {
  auto model = LanguageModel::Create(lease, ops);
  EXPECT_TRUE(model.ok()) << model.status();
  if (!model.ok()) return {};
  const int64_t vocab = (*model)->vocab_size();
  const KvShape shape = (*model)->kv_shape(kv_type);
  KvCache cache(shape, 16 * shape.PageBytes());
  PageTable pages;
  const auto compute = Compute::Create(2);
  const Compute::Turn turn(compute.get());
  std::vector<float> logits(ids.size() * static_cast<size_t>(vocab));
  for (size_t first = 0; first < ids.size(); first += chunk) {
    const auto count =
        static_cast<int64_t>(std::min(chunk, ids.size() - first));
    const auto position = static_cast<int64_t>(first);
    EXPECT_TRUE(cache.PrepareWrite(pages, position, count));
    Batch batch;
    batch.tokens.assign(ids.begin() + position, ids.begin() + position + count);
    batch.sequences.push_back({0, count, position, &pages});
    for (int64_t i = 0; i < count; ++i) batch.logit_rows.push_back(i);
    EXPECT_TRUE((*model)->Forward(batch, cache, {compute.get(), nullptr}));
    (*model)->Logits(0, count, compute.get(), logits.data() + position * vocab);
  }
  cache.Release(pages);
  return logits;
}

class FamilyGolden : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override { Open(GetParam()); }

  void Open(const std::string& family) {
    std::ifstream file("tests/golden/families/" + family + ".json");
    ASSERT_TRUE(file.good());
    golden_ = Json::parse(file);
    auto store = weights::WeightStore::Open({.path = directory_ / "store"});
    ASSERT_TRUE(store.ok()) << store.status();
    store_ = *std::move(store);
    tier_ = weights::RamTier::Create(store_.get(), int64_t{64} << 20);
  }

  std::unique_ptr<weights::ModelLease> Import(const std::string& path) {
    const std::string name = fmt::format("model{}", ++imports_);
    const auto entry = store_->Import(path, name, nullptr);
    EXPECT_TRUE(entry.ok()) << entry.status();
    if (!entry.ok()) return nullptr;
    auto lease =
        tier_->Acquire(*store_->Manifest(name), absl::InfiniteFuture());
    EXPECT_TRUE(lease.ok()) << lease.status();
    return lease.ok() ? *std::move(lease) : nullptr;
  }

  // The largest distance from transformers' logits, over all positions kept.
  double Distance(const std::vector<float>& logits) const {
    const auto vocab = golden_["config"]["vocab_size"].get<size_t>();
    double worst = 0;
    size_t compared = 0;
    for (const auto& [at, want] : golden_["logits"].items()) {
      for (size_t i = 0; i < vocab; ++i) {
        const float got = logits.at(std::stoul(at) * vocab + i);
        EXPECT_TRUE(std::isfinite(got));
        const double apart =
            std::abs(static_cast<double>(got) - want.at(i).get<double>());
        worst = std::max(worst, apart);
        ++compared;
      }
    }
    EXPECT_GE(compared, 400u);
    return worst;
  }

  // Both paths against the oracle; the reference path also in pieces.
  void ExpectGolden(const weights::ModelLease& lease) {
    const auto ids = golden_["ids"].get<std::vector<int32_t>>();
    const std::vector<float> logits = LogitsOf(
        lease, kernels::ReferenceOps(), kernels::KvType::kF32, ids, ids.size());
    EXPECT_LE(Distance(logits), 1e-3);
    EXPECT_EQ(logits, LogitsOf(lease, kernels::ReferenceOps(),
                               kernels::KvType::kF32, ids, 13));
    const std::vector<float> fast = LogitsOf(
        lease, kernels::FastOps(), kernels::KvType::kF16, ids, ids.size());
    // int8 activations of random weights; a wrong layer is ten times as far.
    EXPECT_LE(Distance(fast), 0.5);
    std::printf("%s: reference %.6f, fast %.3f\n", GetParam().c_str(),
                Distance(logits), Distance(fast));
  }

  Json golden_;
  TempDir directory_;
  std::unique_ptr<weights::WeightStore> store_;
  std::unique_ptr<weights::RamTier> tier_;
  int imports_ = 0;
};

TEST_P(FamilyGolden, FromHuggingFace) {
  WriteFolder(golden_, golden_["config"], directory_ / "new");
  const auto lease = Import(directory_ / "new");
  ASSERT_NE(lease, nullptr);
  ExpectGolden(*lease);
}

// config.json in the words that files had before transformers 5.
TEST_P(FamilyGolden, FromAnOlderFolder) {
  if (!golden_.contains("older_config")) GTEST_SKIP() << "says it alike";
  WriteFolder(golden_, golden_["older_config"], directory_ / "old");
  const auto lease = Import(directory_ / "old");
  ASSERT_NE(lease, nullptr);
  ExpectGolden(*lease);
}

class MixtureGolden : public FamilyGolden {};

// A store that says of one unit that it is corrupt.
class CorruptStore final : public weights::WeightStore {
 public:
  CorruptStore(weights::WeightStore* store, std::string unit)
      : store_(store), unit_(std::move(unit)) {}

  absl::Status ReadRecord(const weights::UnitInfo& unit, size_t record,
                          std::span<std::byte> out) override {
    if (unit.name == unit_) return DataLoss("unit {} is corrupt", unit.name);
    return store_->ReadRecord(unit, record, out);
  }
  absl::StatusOr<weights::ModelEntry> Import(
      const std::string& path, const std::string& name,
      const weights::ImportProgress& progress) override {
    return store_->Import(path, name, progress);
  }
  absl::StatusOr<weights::ModelEntry> Derive(
      const weights::DerivedModel& model, const std::string& name,
      const weights::ImportProgress& progress) override {
    return store_->Derive(model, name, progress);
  }
  std::vector<weights::ModelEntry> List() const override {
    return store_->List();
  }
  absl::StatusOr<std::shared_ptr<const weights::ModelManifest>> Manifest(
      std::string_view name) const override {
    return store_->Manifest(name);
  }
  absl::Status Remove(std::string_view name) override {
    return store_->Remove(name);
  }

 private:
  weights::WeightStore* const store_;
  const std::string unit_;
};

// The least budget that the model runs under: with two experts in memory.
int64_t LeastBudget(const weights::ModelManifest& manifest) {
  int64_t bytes = 2 * weights::ExpertCache::LargestFootprint(manifest);
  for (const weights::UnitInfo& unit : manifest.units) {
    if (weights::ExpertCache::IsExpert(unit)) continue;
    bytes += weights::UnitMemory::Footprint(unit.bytes);
  }
  return bytes;
}

TEST_P(MixtureGolden, TheSameBitsWithExpertsOnDemand) {
  WriteFolder(golden_, golden_["config"], directory_ / "new");
  const auto whole = Import(directory_ / "new");
  ASSERT_NE(whole, nullptr);
  ASSERT_EQ(whole->experts(), nullptr);
  const auto manifest = *store_->Manifest("model1");
  const int64_t budget = LeastBudget(*manifest);
  EXPECT_FALSE(weights::RamTier::Footprint(*manifest, budget - 1).ok());
  const auto tier = weights::RamTier::Create(store_.get(), budget);
  auto lease = tier->Acquire(manifest, absl::InfiniteFuture());
  ASSERT_TRUE(lease.ok()) << lease.status();
  ASSERT_NE((*lease)->experts(), nullptr);

  const auto ids = golden_["ids"].get<std::vector<int32_t>>();
  for (const kernels::Ops* ops :
       {&kernels::FastOps(), &kernels::ReferenceOps()}) {
    const auto resident =
        LogitsOf(*whole, *ops, kernels::KvType::kF16, ids, ids.size());
    EXPECT_EQ(resident, LogitsOf(**lease, *ops, kernels::KvType::kF16, ids, 1));
    EXPECT_EQ(resident,
              LogitsOf(**lease, *ops, kernels::KvType::kF16, ids, ids.size()));
  }
  const weights::ExpertCacheStats stats = (*lease)->experts()->Stats();
  EXPECT_GT(stats.evictions, 0);
  EXPECT_LE(stats.resident_bytes,
            2 * weights::ExpertCache::LargestFootprint(*manifest));
  std::printf("%s: %ld experts found, %ld read\n", GetParam().c_str(),
              static_cast<long>(stats.hits), static_cast<long>(stats.reads));
}

// A corrupt expert fails the rows that chose it, and no bit of another.
TEST_P(MixtureGolden, ACorruptExpertFailsItsRowsAlone) {
  WriteFolder(golden_, golden_["config"], directory_ / "new");
  const auto whole = Import(directory_ / "new");
  ASSERT_NE(whole, nullptr);
  const auto manifest = *store_->Manifest("model1");
  CorruptStore corrupt(store_.get(), "layer.0.expert.1");
  const auto tier = weights::RamTier::Create(&corrupt, LeastBudget(*manifest));
  auto lease = tier->Acquire(manifest, absl::InfiniteFuture());
  ASSERT_TRUE(lease.ok()) << lease.status();

  // Every token is a sequence of its own.
  const auto ids = golden_["ids"].get<std::vector<int32_t>>();
  const auto run = [&](const weights::ModelLease& weights,
                       std::map<int64_t, std::string>* failed) {
    auto model = LanguageModel::Create(weights, kernels::FastOps());
    EXPECT_TRUE(model.ok()) << model.status();
    const KvShape shape = (*model)->kv_shape(kernels::KvType::kF16);
    KvCache cache(shape, static_cast<int64_t>(ids.size()) * shape.PageBytes());
    std::vector<PageTable> pages(ids.size());
    Batch batch;
    batch.tokens = ids;
    for (size_t i = 0; i < ids.size(); ++i) {
      const auto row = static_cast<int64_t>(i);
      EXPECT_TRUE(cache.PrepareWrite(pages[i], 0, 1));
      batch.sequences.push_back({row, 1, 0, &pages[i]});
      batch.logit_rows.push_back(row);
    }
    const auto compute = Compute::Create(2);
    const Compute::Turn turn(compute.get());
    EXPECT_TRUE((*model)->Forward(batch, cache, {compute.get(), nullptr}));
    for (const RowFailure& failure : (*model)->failures()) {
      EXPECT_TRUE(absl::IsDataLoss(failure.status)) << failure.status;
      (*failed)[failure.row] = Message(failure.status);
    }
    std::vector<float> logits(ids.size() *
                              static_cast<size_t>((*model)->vocab_size()));
    (*model)->Logits(0, static_cast<int64_t>(ids.size()), compute.get(),
                     logits.data());
    for (PageTable& table : pages) cache.Release(table);
    return logits;
  };
  std::map<int64_t, std::string> none;
  std::map<int64_t, std::string> failed;
  const std::vector<float> want = run(*whole, &none);
  const std::vector<float> got = run(**lease, &failed);
  EXPECT_TRUE(none.empty());
  EXPECT_FALSE(failed.empty());
  EXPECT_LT(failed.size(), ids.size());
  const size_t vocab = want.size() / ids.size();
  for (size_t i = 0; i < ids.size(); ++i) {
    if (const auto it = failed.find(static_cast<int64_t>(i));
        it != failed.end()) {
      EXPECT_EQ(it->second, "unit layer.0.expert.1 is corrupt");
      continue;
    }
    for (size_t c = i * vocab; c < (i + 1) * vocab; ++c) {
      ASSERT_EQ(want[c], got[c]) << "row " << i;
    }
  }
}

// The same through the engine: who chose it hears why, and leaves nothing
// behind that another request would begin with; who did not is answered.
TEST_P(MixtureGolden, AnEngineEndsThoseRequestsAlone) {
  WriteFolder(golden_, golden_["config"], directory_ / "new");
  ASSERT_NE(Import(directory_ / "new"), nullptr);
  const auto manifest = *store_->Manifest("model1");
  CorruptStore corrupt(store_.get(), "layer.0.expert.1");
  const auto tier = weights::RamTier::Create(&corrupt, LeastBudget(*manifest));
  auto tokenizer = Tokenizer::Create(manifest->spec.tokenizer);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  const std::shared_ptr<const Tokenizer> shared = *std::move(tokenizer);
  const auto compute = Compute::Create(2);
  const auto ids = golden_["ids"].get<std::vector<int32_t>>();

  const auto make = [&](weights::RamTier& of) {
    auto lease = of.Acquire(manifest, absl::InfiniteFuture());
    EXPECT_TRUE(lease.ok()) << lease.status();
    auto engine =
        Engine::Create(*std::move(lease), shared, compute.get(),
                       {.kv_budget_bytes = int64_t{8} << 20, .max_batch = 16});
    EXPECT_TRUE(engine.ok()) << engine.status();
    return *std::move(engine);
  };
  const auto run = [](Engine& engine,
                      const std::vector<std::vector<int32_t>>& prompts) {
    std::vector<std::unique_ptr<Collector>> collectors;
    for (const std::vector<int32_t>& prompt : prompts) {
      EngineRequest request;
      request.prompt = prompt;
      request.sampling.temperature = 0;
      request.sampling.max_tokens = 1;
      request.sampling.ignore_eos = true;
      collectors.push_back(std::make_unique<Collector>(1));
      const auto ticket = engine.Submit(request, collectors.back()->Sink());
      EXPECT_TRUE(ticket.ok()) << ticket.status();
    }
    std::vector<Outcome> outcomes;
    for (const auto& collector : collectors) {
      outcomes.push_back(collector->Wait().front());
    }
    return outcomes;
  };
  std::vector<std::vector<int32_t>> prompts;  // a token each: few experts
  for (const int32_t id : ids) prompts.push_back({id});
  const auto whole = make(*tier_);
  const auto lacking = make(*tier);
  const std::vector<Outcome> want = run(*whole, prompts);
  const std::vector<Outcome> got = run(*lacking, prompts);
  size_t failed = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    ASSERT_EQ(want[i].finish, FinishReason::kLength);
    if (got[i].finish == FinishReason::kError) {
      EXPECT_TRUE(absl::IsDataLoss(got[i].status)) << got[i].status;
      EXPECT_TRUE(got[i].tokens.empty());
      ++failed;
      continue;
    }
    ASSERT_EQ(got[i].tokens.size(), 1u);
    EXPECT_EQ(got[i].tokens[0].token, want[i].tokens[0].token);
  }
  EXPECT_GT(failed, 0u);
  EXPECT_LT(failed, want.size());

  const std::vector<int32_t> page(ids.begin(), ids.begin() + 36);
  for (int i = 0; i < 2; ++i) {
    const Outcome outcome = run(*lacking, {page}).front();
    EXPECT_EQ(outcome.finish, FinishReason::kError);
    EXPECT_EQ(outcome.cached_token_count, 0);
  }
}

TEST_P(FamilyGolden, FromGguf) {
  if (!golden_.contains("gguf")) GTEST_SKIP() << "GGUF cannot say it";
  WriteGguf(golden_, directory_ / "model.gguf");
  const auto lease = Import(directory_ / "model.gguf");
  ASSERT_NE(lease, nullptr);
  ExpectGolden(*lease);
}

INSTANTIATE_TEST_SUITE_P(All, FamilyGolden,
                         ::testing::Values("llama", "llama_biases", "llama3",
                                           "llama_linear", "llama_yarn",
                                           "mistral", "mistral_full", "qwen2",
                                           "qwen2_window", "qwen3", "gemma3",
                                           "gemma3_scalar", "mixtral", "olmoe",
                                           "qwen2moe", "qwen3moe",
                                           "qwen3moe_raw"),
                         [](const auto& which) { return which.param; });

INSTANTIATE_TEST_SUITE_P(All, MixtureGolden,
                         ::testing::Values("mixtral", "olmoe", "qwen2moe",
                                           "qwen3moe"),
                         [](const auto& which) { return which.param; });

// The sentence encoder has no logits: sums of its last layer's states.
class BertGolden : public FamilyGolden {
 protected:
  void SetUp() override { Open("bert"); }

  static std::vector<double> SumOf(Bert& bert, const std::vector<int32_t>& ids,
                                   Compute* compute) {
    std::vector<double> sum(static_cast<size_t>(bert.hidden_size()), 0.0);
    Compute::Turn turn(compute);
    bert.AddStates(ids, compute, turn, sum);
    return sum;
  }
};

TEST_P(BertGolden, FromHuggingFace) {
  WriteFolder(golden_, golden_["config"], directory_ / "new", kWordPiece);
  const auto lease = Import(directory_ / "new");
  ASSERT_NE(lease, nullptr);
  const auto compute = Compute::Create(2);
  const auto exact = Bert::Create(*lease, kernels::ReferenceOps());
  ASSERT_TRUE(exact.ok()) << exact.status();
  const auto scalar =
      Bert::Create(*lease, kernels::FastOps(kernels::Isa::kScalar));
  ASSERT_TRUE(scalar.ok()) << scalar.status();
  double worst = 0, worst_cosine = 1;
  for (const Json& text : golden_["texts"]) {
    const auto ids = text["ids"].get<std::vector<int32_t>>();
    const auto want = text["sum"].get<std::vector<double>>();
    const std::vector<double> got = SumOf(**exact, ids, compute.get());
    ASSERT_EQ(got.size(), want.size());
    for (size_t i = 0; i < want.size(); ++i) {
      // Of a token, on average.
      worst = std::max(
          worst, std::abs(got[i] - want[i]) / static_cast<double>(ids.size()));
    }
    const std::vector<double> bits = SumOf(**scalar, ids, compute.get());
    double dot = 0, a = 0, b = 0;
    for (size_t i = 0; i < want.size(); ++i) {
      dot += bits[i] * want[i];
      a += bits[i] * bits[i];
      b += want[i] * want[i];
    }
    worst_cosine = std::min(worst_cosine, dot / std::sqrt(a * b));
    for (const kernels::Isa isa : kernels::SupportedIsas()) {
      const auto fast = Bert::Create(*lease, kernels::FastOps(isa));
      ASSERT_TRUE(fast.ok()) << fast.status();
      EXPECT_EQ(SumOf(**fast, ids, compute.get()), bits)
          << kernels::IsaName(isa) << ", " << ids.size() << " tokens";
    }
  }
  std::printf("bert: reference %.7f, cosine of the fast path %.6f\n", worst,
              worst_cosine);
  EXPECT_LE(worst, 1e-4);
  EXPECT_GE(worst_cosine, 0.999);
}

INSTANTIATE_TEST_SUITE_P(All, BertGolden, ::testing::Values("bert"),
                         [](const auto& which) { return which.param; });

}  // namespace
}  // namespace conclave::engine
