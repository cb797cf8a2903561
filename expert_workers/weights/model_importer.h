// Packs an opened model into segments: the slow part of an import, before
// anything is published.
#ifndef CONCLAVE_EXPERT_WORKERS_WEIGHTS_MODEL_IMPORTER_H_
#define CONCLAVE_EXPERT_WORKERS_WEIGHTS_MODEL_IMPORTER_H_

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "base/hash.h"
#include "base/status.h"
#include "expert_workers/weights/catalog.h"
#include "expert_workers/weights/model_source.h"
#include "expert_workers/weights/segment_store.h"
#include "expert_workers/weights/weight_store.h"

namespace conclave::weights {

// A GGUF file or a Hugging Face folder, by what it is.
absl::StatusOr<ModelSource> OpenModel(const std::string& path);

// A model whose segments lie finished in the store's import folder.
struct PackedModel {
  ModelManifest manifest;  // complete, with version
  std::string encoded;     // EncodeManifest(manifest)
  // Units that the store did not have; their segments are to be published.
  std::map<Hash128, UnitRecord> new_units;
};

// Where the units of `source` will lie; digests are still empty.
absl::StatusOr<std::vector<UnitInfo>> PlanUnits(const ModelSource& source);

// The digest of the source's files, of `bytes` weights: reads all of them, so
// `progress` may stop it.
absl::StatusOr<std::string> WatchedDigest(const ModelSource& source,
                                          int64_t bytes,
                                          const ImportProgress& progress);

// Reads every weight once, in units' order, and writes the units that
// `is_known` (by digest) does not have to segments first_segment .. . The
// source's digest is computed beside it, on a second core.
// Memory: two records, two pieces of source rows.
absl::StatusOr<PackedModel> PackModel(
    const ModelSource& source, std::vector<UnitInfo> plan,
    uint64_t first_segment, SegmentStore* segments,
    const std::function<bool(const Hash128&)>& is_known,
    const ImportProgress& progress);

// The same for a derived model: only its new units are written, to segments
// first_segment .. , one for each.
absl::StatusOr<PackedModel> PackDerived(
    const DerivedModel& model, uint64_t first_segment, SegmentStore* segments,
    const std::function<bool(const Hash128&)>& is_known,
    const ImportProgress& progress);

}  // namespace conclave::weights

#endif  // CONCLAVE_EXPERT_WORKERS_WEIGHTS_MODEL_IMPORTER_H_
