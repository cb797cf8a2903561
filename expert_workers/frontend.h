// What a model needs before its weights do: tokenizer and chat template. Small
// beside the weights, so it stays when they go.
//
// Threads: all methods may run concurrently.
#ifndef CONCLAVE_EXPERT_WORKERS_FRONTEND_H_
#define CONCLAVE_EXPERT_WORKERS_FRONTEND_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "conclave/v1/worker.pb.h"
#include "expert_workers/tokenizer/tokenizer.h"
#include "expert_workers/weights/weight_store.h"

namespace conclave::workers {

// A prompt as the engine takes it.
struct Prompt {
  std::vector<int32_t> tokens;
  std::string text;  // as `echo` shows it; control tokens left out
};

class Frontend {
 public:
  // UNIMPLEMENTED, INVALID_ARGUMENT: tokenizer or template cannot be used.
  static absl::StatusOr<std::unique_ptr<Frontend>> Create(
      std::shared_ptr<const weights::ModelManifest> manifest);
  virtual ~Frontend() = default;

  // Chat messages go through the model's template; what users wrote never
  // becomes a control token. BOS is added once, if the model wants one.
  //   INVALID_ARGUMENT  no prompt; bad JSON in tools; ids out of range; the
  //                     model has no chat template, or its template refuses
  virtual absl::StatusOr<Prompt> Build(
      const v1::WorkerGenerateRequest& request) const = 0;

  virtual std::shared_ptr<const engine::Tokenizer> tokenizer() const = 0;
  virtual const weights::ModelManifest& manifest() const = 0;
};

}  // namespace conclave::workers

#endif  // CONCLAVE_EXPERT_WORKERS_FRONTEND_H_
