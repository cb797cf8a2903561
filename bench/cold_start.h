// How long the first token of a model takes that is not in memory, through the
// worker's own host, beside the least it could take: a raw read of the same
// bytes, then the prompt.
#ifndef CONCLAVE_BENCH_COLD_START_H_
#define CONCLAVE_BENCH_COLD_START_H_

#include <cstdint>
#include <string>

#include "base/status.h"

namespace conclave {

// One round; seconds.
struct ColdStart {
  int64_t bytes = 0;  // of the store's segments
  double raw = 0;     // to read them with O_DIRECT
  double prompt = 0;  // to the first token of a prompt, model in memory
  // To the first token of another prompt of the same length: of a host that has
  // just started, which makes the tokenizer too, and of one that has had the
  // model before.
  double started = 0;
  double again = 0;

  double Ratio(double cold) const { return cold / (raw + prompt); }
};

// A store with one model, so that a raw read of the store reads this model;
// removed with it.
class ColdStartBench {
 public:
  // `directory` is made; not on a file system in memory.
  explicit ColdStartBench(std::string directory);
  ~ColdStartBench();
  ColdStartBench(const ColdStartBench&) = delete;
  ColdStartBench& operator=(const ColdStartBench&) = delete;

  absl::Status Import(const std::string& file);
  // Each reads after the page cache has let the store go.
  absl::StatusOr<ColdStart> Run(int64_t prompt_tokens, int threads);

 private:
  void DropPageCache() const;

  const std::string directory_;
  struct Store;
  Store* store_ = nullptr;
  int64_t serial_ = 0;
};

}  // namespace conclave

#endif  // CONCLAVE_BENCH_COLD_START_H_
