// Sentence vectors of samples by the hash of their text, so that registering
// an expert embeds its own samples and no others.
//
// Threads: all methods may run concurrently; one text may be embedded twice
// when two threads ask for it at once.
#ifndef CONCLAVE_ROUTER_SERVICE_CLASSIFY_VECTOR_CACHE_H_
#define CONCLAVE_ROUTER_SERVICE_CLASSIFY_VECTOR_CACHE_H_

#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "base/hash.h"
#include "base/status.h"

namespace conclave::router {

// One text -> one vector. Need not be normalised; called from many threads.
using EmbedFn =
    std::function<absl::StatusOr<std::vector<float>>(std::string_view text)>;

// Unit length. INVALID_ARGUMENT for an empty, zero or non-finite vector: an
// encoder that answers so is broken, and silence would spoil every decision.
absl::StatusOr<std::vector<float>> Normalised(std::vector<float> vector);

class VectorCache {
 public:
  // The vectors of `texts`, in order, all of one size; embeds what is missing.
  // Asks `go_on` between texts and ends with CANCELLED when it says false.
  // FAILED_PRECONDITION when the encoder's size changes half way.
  absl::StatusOr<std::vector<std::vector<float>>> Get(
      const std::vector<std::string>& texts, const EmbedFn& embed,
      const std::function<bool()>& go_on);
  // Forgets every text that is not in `texts`: memory follows the registry.
  void KeepOnly(const std::vector<std::string>& texts);

  size_t size() const;
  // Texts that Get had to embed since the cache was made.
  int64_t num_embedded() const;

 private:
  mutable std::mutex mutex_;
  std::map<Hash128, std::vector<float>> vectors_;
  int64_t num_embedded_ = 0;
};

}  // namespace conclave::router

#endif  // CONCLAVE_ROUTER_SERVICE_CLASSIFY_VECTOR_CACHE_H_
