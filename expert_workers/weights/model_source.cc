#include "expert_workers/weights/model_source.h"

#include "base/check.h"

namespace conclave::weights {

int64_t SourceRow(const SourceTensor& tensor, int64_t row) {
  const int64_t head_dim = tensor.interleaved_head_dim;
  if (head_dim == 0) return row;
  // Rotate-half row (half, pair) of a head is the interleaved row
  // 2 * pair + half.
  const int64_t within = row % head_dim;
  const int64_t half = within / (head_dim / 2);
  const int64_t pair = within % (head_dim / 2);
  return row - within + 2 * pair + half;
}

absl::Status ReadRows(const ModelSource& source, const SourceTensor& tensor,
                      int64_t first, int64_t count, std::span<std::byte> out) {
  const int64_t row_bytes = kernels::RowBytes(tensor.type, tensor.cols);
  CHECK(first >= 0 && count >= 0 && first + count <= tensor.rows &&
            out.size() == static_cast<size_t>(count * row_bytes),
        "{}: rows {}+{} of {}", tensor.name, first, count, tensor.rows);
  const ByteSource& file = *source.files[tensor.file];
  if (tensor.interleaved_head_dim == 0 || tensor.is_vector) {
    return file.ReadAt(tensor.offset + first * row_bytes, out);
  }
  // One read per row: Q and K are a few per cent of a model, and the rows come
  // from the page cache.
  for (int64_t i = 0; i < count; ++i) {
    RETURN_IF_ERROR(
        file.ReadAt(tensor.offset + SourceRow(tensor, first + i) * row_bytes,
                    out.subspan(static_cast<size_t>(i * row_bytes),
                                static_cast<size_t>(row_bytes))));
  }
  return absl::OkStatus();
}

}  // namespace conclave::weights
