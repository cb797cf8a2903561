// A random language model of some 100 kB, held in memory: no store, no file.
// Useful where the engine's behaviour is tested, not a model's knowledge; its
// shapes are awkward on purpose (a vocabulary that is no multiple of a panel,
// shared key-value heads, three blocks a row, several number formats).
#ifndef CONCLAVE_EXPERT_WORKERS_ENGINE_TINY_MODEL_H_
#define CONCLAVE_EXPERT_WORKERS_ENGINE_TINY_MODEL_H_

#include <cstdint>
#include <memory>
#include <string>

#include "expert_workers/tokenizer/tokenizer.h"
#include "expert_workers/weights/model_spec.h"
#include "expert_workers/weights/ram_tier.h"

namespace conclave::engine {

struct TinyModelOptions {
  std::string architecture = "llama";  // any decoder of families/
  uint64_t seed = 1;
  int64_t max_context = 512;
  bool tied_embeddings = true;
  int64_t window = 0;          // tokens, of the first layer; 0: none
  bool other_tokens = false;   // a vocabulary like MakeTinyTokenizer's, not it
  int32_t missing_tokens = 0;  // the last so many are not in the vocabulary
};

// Token i < 256 is the byte i; then come kTinyWords, then kTinyEndOfTurn.
inline constexpr const char* kTinyWords[] = {
    "the", "ing", " of", "STOP", "\xc3\xa9", "\xe6\x9d", "\xb1!"};
inline constexpr int32_t kTinyEndOfTurn = 256 + 7;
inline constexpr int32_t kTinyVocabSize = kTinyEndOfTurn + 1;

std::unique_ptr<weights::ModelLease> MakeTinyModel(
    const TinyModelOptions& options = {});
std::shared_ptr<const Tokenizer> MakeTinyTokenizer();

// Replaces one row of the embedding (and of a tied head) by NaN: whoever reads
// this token computes nonsense.
std::unique_ptr<weights::ModelLease> MakeTinyModelWithPoison(
    const TinyModelOptions& options, int32_t poisoned_token);

}  // namespace conclave::engine

#endif  // CONCLAVE_EXPERT_WORKERS_ENGINE_TINY_MODEL_H_
