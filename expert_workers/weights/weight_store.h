// Immutable model weights on disk: RocksDB, one unit per record sequence.
//
//   model    = manifest (spec + units), version id = hash of the manifest
//   unit     = what is loaded and evicted together: a layer's attention, its
//              feed-forward half or one MoE expert; the embedding; the output
//              head with the final norm. Identified by the digest
//              of its content, so two models that share a unit store it once.
//   record   = at most 4 MiB - 4 KiB of a unit; holds whole panels
//
// Import publishes atomically: killed at any point, the store holds the old
// state or the new one.
//
// Threads: all methods may run concurrently; imports run one at a time.
#ifndef CONCLAVE_EXPERT_WORKERS_WEIGHTS_WEIGHT_STORE_H_
#define CONCLAVE_EXPERT_WORKERS_WEIGHTS_WEIGHT_STORE_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/hash.h"
#include "base/status.h"
#include "expert_workers/weights/model_spec.h"
#include "kernels/packed_matrix.h"

namespace conclave::weights {

// Where a tensor's panels (or, for a vector, its fp32 values) lie.
struct TensorRun {
  uint32_t record = 0;  // index within the unit
  int64_t offset = 0;   // bytes from the start of the record's payload
  int64_t first_panel = 0;
  int64_t num_panels = 0;
};

// Tensor names are GGUF's ("blk.3.attn_q.weight", "token_embd.weight",
// "output.weight", "output_norm.weight") for every source; importers translate.
struct TensorInfo {
  std::string name;
  kernels::QuantType type = kernels::QuantType::kF32;
  int64_t rows = 0;  // output features; 1 for a vector
  int64_t cols = 0;
  // Vectors (norms, biases) are plain fp32 [cols], one run, never panels.
  bool is_vector = false;
  std::vector<TensorRun> runs;
};

// A run's bytes within its record: num_panels panels, or a vector's values.
inline int64_t RunBytes(const TensorInfo& tensor, const TensorRun& run) {
  if (tensor.is_vector) {
    return tensor.cols * static_cast<int64_t>(sizeof(float));
  }
  return run.num_panels * kernels::PanelBytes(tensor.type, tensor.cols);
}

struct UnitInfo {
  // "embedding"; "layer.3" and "layer.3.ffn", or "layer.3.gate" and
  // "layer.3.expert.17"; "head".
  std::string name;
  // The first half of SHA-256 over the layout version and every record's
  // length and payload, in order. It decides what is stored once, so that a
  // hostile model must not be able to choose it: XXH3 would let it.
  Hash128 digest;
  int64_t bytes = 0;  // of all records
  // Each a multiple of 64, so that records laid end to end stay aligned.
  std::vector<int64_t> record_bytes;
  std::vector<TensorInfo> tensors;
};

struct ModelManifest {
  std::string version;        // 64 hexadecimal digits: SHA-256 of the rest
  std::string source_digest;  // SHA-256 of the imported file(s), or lineage
  // What a derived model was made of, and how: JSON. Empty: imported.
  std::string lineage;
  int64_t total_bytes = 0;
  int64_t parameters = 0;
  ModelSpec spec;
  std::vector<UnitInfo> units;  // embedding, layer.0 .., head
};

struct ModelEntry {
  std::string name;
  std::string version;
  std::string architecture;
  int64_t total_bytes = 0;
  int64_t parameters = 0;
  std::string source;  // the file or folder's own name, no path
};

// A unit of a derived model. One that the store has already is named by its
// digest; another has none (zero), and `fill` writes its records: whole
// (padding included), from several threads at once.
struct DerivedUnit {
  UnitInfo info;
  std::function<absl::Status(size_t record, std::span<std::byte> out)> fill;
};

// A model made of stored ones: what a surgery (forge/) leaves alone costs no
// space.
struct DerivedModel {
  ModelSpec spec;
  std::string lineage;  // JSON: operation, parents, arguments
  std::string source;   // for listings: "upcycle of chat"
  std::vector<DerivedUnit> units;
};

// Called with bytes done and bytes in all, often: for a progress bar, and to
// stop. An error ends the import with it, and nothing is stored.
using ImportProgress = std::function<absl::Status(int64_t done, int64_t total)>;

class WeightStore {
 public:
  struct Options {
    std::string path;  // a directory; made when absent
    // What an import must leave free on the disk: RocksDB's own log needs
    // room to say that the disk is full.
    int64_t reserve_bytes = int64_t{256} << 20;
    // Beside a process that owns the directory: sees what it imports, changes
    // nothing (FAILED_PRECONDITION).
    bool read_only = false;
  };
  // UNAVAILABLE when another process holds the directory (message names it);
  // PERMISSION_DENIED, RESOURCE_EXHAUSTED (disk full) as they are.
  static absl::StatusOr<std::unique_ptr<WeightStore>> Open(Options options);
  virtual ~WeightStore() = default;

  // Imports a GGUF file or a Hugging Face folder under `name`.
  //   INVALID_ARGUMENT  not a model, truncated, lying about lengths; the
  //                     message has the offset or the tensor's name
  //   UNIMPLEMENTED     unknown architecture or tensor type; says what works
  //   ALREADY_EXISTS    `name` is another version (the same one is fine: OK)
  //   RESOURCE_EXHAUSTED  not enough disk, with both numbers
  //   ABORTED           the file changed while it was read
  //   what `progress` answered
  // Waits for an import that is running.
  virtual absl::StatusOr<ModelEntry> Import(const std::string& path,
                                            const std::string& name,
                                            const ImportProgress& progress) = 0;

  // Stores a derived model under `name`, as Import does.
  //   NOT_FOUND       a unit named by its digest was removed meanwhile
  //   ALREADY_EXISTS  `name` is another version (equal lineage is fine: OK)
  //   RESOURCE_EXHAUSTED  not enough disk, with both numbers
  virtual absl::StatusOr<ModelEntry> Derive(const DerivedModel& model,
                                            const std::string& name,
                                            const ImportProgress& progress) = 0;

  virtual std::vector<ModelEntry> List() const = 0;
  // NOT_FOUND names the nearest models. Accepts a name or a version id.
  virtual absl::StatusOr<std::shared_ptr<const ModelManifest>> Manifest(
      std::string_view name_or_version) const = 0;
  // Takes the name away; units no other model uses are deleted.
  virtual absl::Status Remove(std::string_view name) = 0;

  // Reads one record of a unit into `out` (record_bytes[record] bytes,
  // 64-byte aligned) and verifies its hash.
  //   DATA_LOSS  the bytes are not the ones imported; names model and unit
  //   NOT_FOUND  the unit was removed, and no other model has it
  virtual absl::Status ReadRecord(const UnitInfo& unit, size_t record,
                                  std::span<std::byte> out) = 0;
};

}  // namespace conclave::weights

#endif  // CONCLAVE_EXPERT_WORKERS_WEIGHTS_WEIGHT_STORE_H_
