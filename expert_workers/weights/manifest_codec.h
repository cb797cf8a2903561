// A manifest as bytes: canonical, so that equal models have equal versions.
// The grammar is in docs/weights_on_disk.md.
#ifndef CONCLAVE_EXPERT_WORKERS_WEIGHTS_MANIFEST_CODEC_H_
#define CONCLAVE_EXPERT_WORKERS_WEIGHTS_MANIFEST_CODEC_H_

#include <string>
#include <string_view>

#include "base/status.h"
#include "expert_workers/weights/weight_store.h"

namespace conclave::weights {

// Everything but `version`, with the layout version of the packed matrices.
std::string EncodeManifest(const ModelManifest& manifest);

// SHA-256 of EncodeManifest: the model's version.
std::string VersionOf(std::string_view encoded);

// The manifest whose version is `version`.
//   DATA_LOSS            the bytes are not that version, or do not parse
//   FAILED_PRECONDITION  packed for another layout: import the model again
absl::StatusOr<ModelManifest> DecodeManifest(std::string_view encoded,
                                             std::string_view version);

}  // namespace conclave::weights

#endif  // CONCLAVE_EXPERT_WORKERS_WEIGHTS_MANIFEST_CODEC_H_
