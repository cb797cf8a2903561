// How a unit's tensors lie in records. The plan depends on shapes alone, so
// it is known, and the disk space checked, before a weight is read.
#ifndef CONCLAVE_EXPERT_WORKERS_WEIGHTS_UNIT_LAYOUT_H_
#define CONCLAVE_EXPERT_WORKERS_WEIGHTS_UNIT_LAYOUT_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/status.h"
#include "expert_workers/weights/model_source.h"
#include "expert_workers/weights/weight_store.h"

namespace conclave::weights {

// 4 MiB less a page: the record with its key and trailer then fits a 4 MiB
// block. 1-8 MiB reads fastest; 16 MiB halves the median (measured).
inline constexpr int64_t kMaxRecordBytes = (int64_t{4} << 20) - 4096;

// The unit with its tensors placed: runs in order, 64-byte aligned, never
// splitting a panel; no digest yet.
//   UNIMPLEMENTED  one panel, or one vector, does not fit a record
absl::StatusOr<UnitInfo> PlanUnit(const UnitSource& unit);

// Reads, permutes and packs what record `record` of the plan holds.
//   out  record_bytes[record] bytes, 64-byte aligned
absl::Status FillRecord(const ModelSource& source, const UnitSource& unit,
                        const UnitInfo& plan, size_t record,
                        std::span<std::byte> out);

// Whether a stored plan may be trusted with memory: runs inside their records
// and aligned, every panel exactly once and in order.
absl::Status CheckPlan(const UnitInfo& unit);

}  // namespace conclave::weights

#endif  // CONCLAVE_EXPERT_WORKERS_WEIGHTS_UNIT_LAYOUT_H_
