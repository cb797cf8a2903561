#include "expert_workers/tokenizer/sentencepiece_module/module.h"

#include <sentencepiece_processor.h>

#include <cstring>
#include <exception>
#include <memory>
#include <string_view>
#include <vector>

namespace {

using sentencepiece::SentencePieceProcessor;

void Say(const char* what, ConclaveSpError* error) {
  std::strncpy(error->text, what, sizeof(error->text) - 1);
  error->text[sizeof(error->text) - 1] = '\0';
}

// `body` returns the library's status.
template <typename Body>
bool Guarded(ConclaveSpError* error, Body body) {
  try {
    const sentencepiece::util::Status status = body();
    if (status.ok()) return true;
    Say(status.error_message(), error);
  } catch (const std::exception& e) {
    Say(e.what(), error);
  } catch (...) {
    Say("unknown failure", error);
  }
  return false;
}

}  // namespace

#define CONCLAVE_EXPORT __attribute__((visibility("default")))

CONCLAVE_EXPORT void* ConclaveSpCreate(const char* proto, size_t size,
                                       ConclaveSpError* error) {
  std::unique_ptr<SentencePieceProcessor> processor;
  const bool loaded = Guarded(error, [&] {
    processor = std::make_unique<SentencePieceProcessor>();
    return processor->LoadFromSerializedProto(std::string_view(proto, size));
  });
  return loaded ? processor.release() : nullptr;
}

CONCLAVE_EXPORT void ConclaveSpDestroy(void* processor) {
  delete static_cast<SentencePieceProcessor*>(processor);
}

CONCLAVE_EXPORT bool ConclaveSpEncode(
    const void* processor, const char* text, size_t size,
    void (*take)(void* context, const int* ids, size_t count), void* context,
    ConclaveSpError* error) {
  return Guarded(error, [&] {
    std::vector<int> ids;
    auto status = static_cast<const SentencePieceProcessor*>(processor)->Encode(
        std::string_view(text, size), &ids);
    if (status.ok()) take(context, ids.data(), ids.size());
    return status;
  });
}
