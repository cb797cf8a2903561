// A sentence encoder (family `bert`): text in, one unit vector out. Long texts
// are read whole, in windows of the model's context, and averaged: nothing is
// cut off silently.
//
// Threads: Embed may run concurrently.
#ifndef CONCLAVE_EXPERT_WORKERS_ENGINE_ENCODER_H_
#define CONCLAVE_EXPERT_WORKERS_ENGINE_ENCODER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "expert_workers/engine/compute.h"
#include "expert_workers/tokenizer/tokenizer.h"
#include "expert_workers/weights/ram_tier.h"

namespace conclave::engine {

struct Embedding {
  std::vector<float> values;  // [hidden_size], Euclidean length 1
  int64_t token_count = 0;
};

struct EncoderOptions {
  bool reference_path = false;  // the fp32 oracle, slow
  std::string isa = {};         // as EngineOptions::isa
};

class Encoder {
 public:
  static absl::StatusOr<std::unique_ptr<Encoder>> Create(
      std::unique_ptr<weights::ModelLease> lease,
      std::shared_ptr<const Tokenizer> tokenizer, Compute* compute,
      const EncoderOptions& options = {});
  // Memory that an encoder takes beside its lease: the fast path's 8-bit
  // copies (forward/bert.h).
  static int64_t CopyBytes(const weights::ModelManifest& manifest,
                           const EncoderOptions& options = {});
  virtual ~Encoder() = default;

  // Mean-pooled, normalised.
  virtual absl::StatusOr<Embedding> Embed(std::string_view text) = 0;
  virtual int64_t hidden_size() const = 0;
};

}  // namespace conclave::engine

#endif  // CONCLAVE_EXPERT_WORKERS_ENGINE_ENCODER_H_
