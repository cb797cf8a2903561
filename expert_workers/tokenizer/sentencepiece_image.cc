#include "expert_workers/tokenizer/sentencepiece_image.h"

// CONCLAVE_SENTENCEPIECE_IMAGE is the built module's path.
asm(R"(
  .pushsection .rodata
  .balign 64
conclave_sentencepiece_image_begin:
  .incbin ")" CONCLAVE_SENTENCEPIECE_IMAGE R"("
conclave_sentencepiece_image_end:
  .popsection
)");

extern "C" const std::byte conclave_sentencepiece_image_begin;
extern "C" const std::byte conclave_sentencepiece_image_end;

namespace conclave::engine {

std::span<const std::byte> SentencePieceImage() {
  return {&conclave_sentencepiece_image_begin,
          &conclave_sentencepiece_image_end};
}

}  // namespace conclave::engine
