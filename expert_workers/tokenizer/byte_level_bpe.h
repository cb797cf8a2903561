// Byte-level BPE (GPT-2 and its heirs): split into words, merge inside each.
#ifndef CONCLAVE_EXPERT_WORKERS_TOKENIZER_BYTE_LEVEL_BPE_H_
#define CONCLAVE_EXPERT_WORKERS_TOKENIZER_BYTE_LEVEL_BPE_H_

#include <memory>
#include <string_view>
#include <vector>

#include "expert_workers/tokenizer/bpe.h"
#include "expert_workers/tokenizer/pretokenize.h"
#include "expert_workers/tokenizer/tokenizer.h"

namespace conclave::engine {

class ByteLevelBpe final : public Tokenizer {
 public:
  ByteLevelBpe(SplitRule rule, std::unique_ptr<BytePairMerger> merger)
      : rule_(rule), merger_(std::move(merger)) {}

 protected:
  void EncodePlain(std::string_view text,
                   std::vector<int32_t>* ids) const override;

 private:
  SplitRule rule_;
  std::unique_ptr<BytePairMerger> merger_;
};

}  // namespace conclave::engine

#endif  // CONCLAVE_EXPERT_WORKERS_TOKENIZER_BYTE_LEVEL_BPE_H_
