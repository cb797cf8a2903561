// The module of sentencepiece_module/ as bytes inside this program, so that
// the program stays one file wherever it is copied to.
#ifndef CONCLAVE_EXPERT_WORKERS_TOKENIZER_SENTENCEPIECE_IMAGE_H_
#define CONCLAVE_EXPERT_WORKERS_TOKENIZER_SENTENCEPIECE_IMAGE_H_

#include <cstddef>
#include <span>

namespace conclave::engine {

std::span<const std::byte> SentencePieceImage();

}  // namespace conclave::engine

#endif  // CONCLAVE_EXPERT_WORKERS_TOKENIZER_SENTENCEPIECE_IMAGE_H_
