// The safetensors container.
//
//   file   = header_bytes:u64 header data
//   header = a JSON object: tensor's name -> {"dtype", "shape",
//            "data_offsets": [begin, end]} and "__metadata__" (strings)
//   data   is covered by the tensors exactly: no holes, no overlaps
//
// The header is read as a stream of JSON events: no tree is built, a name that
// appears twice is refused, and nothing nests deeper than the format does.
#ifndef CONCLAVE_EXPERT_WORKERS_WEIGHTS_SAFETENSORS_FILE_H_
#define CONCLAVE_EXPERT_WORKERS_WEIGHTS_SAFETENSORS_FILE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"
#include "expert_workers/weights/byte_source.h"

namespace conclave::weights {

inline constexpr int64_t kMaxSafetensorsHeaderBytes = 100'000'000;

struct SafetensorsTensor {
  std::string name;
  std::string dtype;           // "F32", "BF16", ..
  std::vector<int64_t> shape;  // shape.back() is contiguous; may be empty
  int64_t offset = 0;          // from the start of the file
  int64_t bytes = 0;
};

//   INVALID_ARGUMENT  not safetensors, truncated, or lying; the message has
//                     the offset or the tensor
//   UNIMPLEMENTED     a dtype whose size is not known
absl::StatusOr<std::vector<SafetensorsTensor>> ParseSafetensors(
    const ByteSource& source);

}  // namespace conclave::weights

#endif  // CONCLAVE_EXPERT_WORKERS_WEIGHTS_SAFETENSORS_FILE_H_
