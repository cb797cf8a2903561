// The GGUF v3 container: metadata and the tensor directory. What the metadata
// means is import_gguf's business.
//
//   file     = "GGUF" version:u32 num_tensors:u64 num_keys:u64
//              { key:string type:u32 value } { tensor } padding data
//   string   = length:u64 bytes
//   tensor   = name:string num_dims:u32 { dim:u64 } type:u32 offset:u64
//   data     starts at the next multiple of general.alignment (default 32);
//            offsets count from there
//
// Every number in a file is hostile: lengths are bounded by what is left of
// the file and by kMaxGgufHeaderBytes before anything is allocated.
#ifndef CONCLAVE_EXPERT_WORKERS_WEIGHTS_GGUF_FILE_H_
#define CONCLAVE_EXPERT_WORKERS_WEIGHTS_GGUF_FILE_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/status.h"
#include "expert_workers/weights/byte_source.h"
#include "kernels/quant_type.h"

namespace conclave::weights {

inline constexpr int64_t kMaxGgufHeaderBytes = int64_t{64} << 20;

enum class GgufType : uint32_t {
  kUint8 = 0,
  kInt8 = 1,
  kUint16 = 2,
  kInt16 = 3,
  kUint32 = 4,
  kInt32 = 5,
  kFloat32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
  kUint64 = 10,
  kInt64 = 11,
  kFloat64 = 12,
};

// Numbers stay as they lie in the file, so that a lie about the count costs
// no more memory than the file has bytes.
struct GgufArray {
  GgufType element = GgufType::kUint8;
  uint64_t count = 0;
  std::string raw;                   // numbers and booleans
  std::vector<std::string> strings;  // strings
};

using GgufValue = std::variant<int64_t, double, bool, std::string, GgufArray>;

struct GgufTensor {
  std::string name;
  kernels::QuantType type = kernels::QuantType::kF32;
  // GGUF's order: dims[0] is contiguous (columns), dims[1] counts rows.
  std::vector<int64_t> dims;
  int64_t offset = 0;  // from the start of the file
  int64_t bytes = 0;
};

struct GgufFile {
  int64_t alignment = 32;
  int64_t data_offset = 0;
  std::map<std::string, GgufValue, std::less<>> metadata;
  std::vector<GgufTensor> tensors;

  // The value of `key`; nothing when absent; INVALID_ARGUMENT when it has
  // another type.
  absl::StatusOr<std::optional<int64_t>> Int(std::string_view key) const;
  absl::StatusOr<std::optional<double>> Float(std::string_view key) const;
  absl::StatusOr<std::optional<bool>> Bool(std::string_view key) const;
  absl::StatusOr<std::optional<std::string>> Text(std::string_view key) const;
  absl::StatusOr<const GgufArray*> Array(std::string_view key,
                                         GgufType element) const;
};

//   INVALID_ARGUMENT  not GGUF, truncated, or lying; the message has the
//                     offset
//   UNIMPLEMENTED     another version or byte order; a tensor type that the
//                     kernels do not read
absl::StatusOr<GgufFile> ParseGguf(const ByteSource& source);

}  // namespace conclave::weights

#endif  // CONCLAVE_EXPERT_WORKERS_WEIGHTS_GGUF_FILE_H_
