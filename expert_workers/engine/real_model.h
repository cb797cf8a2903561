// Test and bench help: real models, from the folder that CONCLAVE_MODELS names
// (default $HOME/.cache/conclave/models), imported into a store of this
// process's own, which is removed at its end.
#ifndef CONCLAVE_EXPERT_WORKERS_ENGINE_REAL_MODEL_H_
#define CONCLAVE_EXPERT_WORKERS_ENGINE_REAL_MODEL_H_

#include <absl/time/clock.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "base/check.h"
#include "expert_workers/tokenizer/tokenizer.h"
#include "expert_workers/weights/ram_tier.h"
#include "expert_workers/weights/weight_store.h"

namespace conclave::engine {

class RealModels {
 public:
  // Never destroyed before the process ends; the folder is.
  static RealModels& Get() {
    static RealModels models;
    return models;
  }

  // A lease on `file` (a GGUF file or a Hugging Face folder), imported when
  // asked for first; nothing when the file is not on this machine.
  std::unique_ptr<weights::ModelLease> Lease(const std::string& file) {
    const std::filesystem::path path = Folder() / file;
    if (!std::filesystem::exists(path)) return nullptr;
    std::string name = file;  // the store's names are lower case
    for (char& c : name) {
      if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    }
    const auto entry = store_->Import(path, name, nullptr);
    CHECK(entry.ok(), "{}: {}", file, Message(entry.status()));
    const auto manifest = store_->Manifest(name);
    CHECK(manifest.ok());
    auto lease = tier_->Acquire(*manifest, absl::Now() + absl::Seconds(60));
    CHECK(lease.ok(), "{}", Message(lease.status()));
    return *std::move(lease);
  }

  static std::shared_ptr<const Tokenizer> MakeTokenizer(
      const weights::ModelLease& lease) {
    auto tokenizer = Tokenizer::Create(lease.manifest().spec.tokenizer);
    CHECK(tokenizer.ok(), "{}", Message(tokenizer.status()));
    return *std::move(tokenizer);
  }

  static std::filesystem::path Folder() {
    if (const char* models = std::getenv("CONCLAVE_MODELS")) return models;
    const char* home = std::getenv("HOME");
    return std::filesystem::path(home == nullptr ? "/" : home) /
           ".cache/conclave/models";
  }

 private:
  RealModels() {
    auto store = weights::WeightStore::Open({.path = directory_.path});
    CHECK(store.ok(), "{}", Message(store.status()));
    store_ = *std::move(store);
    tier_ = weights::RamTier::Create(store_.get(), int64_t{4} << 30);
  }

  struct Directory {
    std::string path = std::filesystem::temp_directory_path() /
                       ("conclave_engine_test." + std::to_string(getpid()));
    ~Directory() { std::filesystem::remove_all(path); }
  };
  Directory directory_;  // goes last
  std::unique_ptr<weights::WeightStore> store_;
  std::unique_ptr<weights::RamTier> tier_;
};

}  // namespace conclave::engine

#endif  // CONCLAVE_EXPERT_WORKERS_ENGINE_REAL_MODEL_H_
