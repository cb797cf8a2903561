#include "expert_workers/tokenizer/incremental_decoder.h"

#include <utility>

#include "expert_workers/tokenizer/unicode.h"

namespace conclave::engine {

std::string IncrementalDecoder::Push(int32_t id) {
  if (!with_control_ && tokenizer_.IsControl(id)) return "";
  pending_ += tokenizer_.TokenBytes(id);
  const size_t held = IncompleteSuffix(pending_);
  std::string ready = pending_.substr(0, pending_.size() - held);
  pending_.erase(0, ready.size());
  return ToValidUtf8(ready);
}

std::string IncrementalDecoder::Finish() {
  return ToValidUtf8(std::exchange(pending_, {}));
}

}  // namespace conclave::engine
