// What both importers produce and the store consumes: a model whose every
// tensor is known, named GGUF's way, checked against its family, and readable
// row by row from where it lies. No weight has been read yet.
#ifndef CONCLAVE_EXPERT_WORKERS_WEIGHTS_MODEL_SOURCE_H_
#define CONCLAVE_EXPERT_WORKERS_WEIGHTS_MODEL_SOURCE_H_

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"
#include "expert_workers/weights/byte_source.h"
#include "expert_workers/weights/model_spec.h"
#include "kernels/quant_type.h"

namespace conclave::weights {

// A tensor where it lies in a source file: `rows` rows of `type`, contiguous.
struct SourceTensor {
  std::string name;
  kernels::QuantType type = kernels::QuantType::kF32;
  int64_t rows = 0;  // 1 for a vector
  int64_t cols = 0;
  bool is_vector = false;
  // More than 1: that many matrices of rows / stacked each, one behind the
  // other. Sorting into units takes them apart.
  int64_t stacked = 1;
  size_t file = 0;     // index into ModelSource::files
  int64_t offset = 0;  // bytes from the start of the file
  // 0: rows lie in their order. Otherwise the source holds each head's rows
  // (or a vector's values) for interleaved RoPE (x0 y0 x1 y1 ..) and they are
  // handed out for rotate-half (x0 x1 .. y0 y1 ..), which is what the kernels
  // use. The value is head_dim, even.
  int64_t interleaved_head_dim = 0;
  // Added to a vector's every value.
  float plus = 0.0f;
};

struct UnitSource {
  std::string name;  // "embedding", "layer.3", "layer.3.ffn", "head"
  std::vector<SourceTensor> tensors;
};

struct ModelSource {
  std::string name;  // the file's or folder's own name
  ModelSpec spec;
  std::vector<UnitSource> units;
  // Files that hold tensors come first, then those the spec was read from.
  std::vector<std::shared_ptr<ByteSource>> files;
};

// Where the source has row `row` (value, of a vector) as it is handed out.
int64_t SourceRow(const SourceTensor& tensor, int64_t row);

// Fills `out` with rows first .. first+count-1 of `tensor`, in the order they
// are handed out (a vector's values as they lie).
// out.size() == count * RowBytes(type, cols).
absl::Status ReadRows(const ModelSource& source, const SourceTensor& tensor,
                      int64_t first, int64_t count, std::span<std::byte> out);

}  // namespace conclave::weights

#endif  // CONCLAVE_EXPERT_WORKERS_WEIGHTS_MODEL_SOURCE_H_
