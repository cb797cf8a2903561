// Registry values <-> their messages, which also are the stored form.
#ifndef CONCLAVE_REGISTRY_CODEC_H_
#define CONCLAVE_REGISTRY_CODEC_H_

#include <string>

#include "conclave/v1/registry.pb.h"
#include "registry/expert_spec.h"

namespace conclave::registry {

v1::Expert ToProto(const ExpertSpec& spec);
ExpertSpec FromProto(const v1::Expert& message);

// The message has the name too.
v1::Alias ToProto(const std::string& name, const AliasRecord& record);
AliasRecord FromProto(const v1::Alias& message);

v1::Model ToProto(const ModelRecord& record);
ModelRecord FromProto(const v1::Model& message);

// What is left of the lease depends on the time: `now_unix_ms`.
v1::Worker ToProto(const WorkerRecord& record, int64_t now_unix_ms);
WorkerRecord FromProto(const v1::Worker& message, int64_t now_unix_ms);

}  // namespace conclave::registry

#endif  // CONCLAVE_REGISTRY_CODEC_H_
