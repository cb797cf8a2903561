#include "expert_workers/tokenizer/sentencepiece_library.h"

#include <dlfcn.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>

#include "expert_workers/tokenizer/sentencepiece_image.h"
#include "expert_workers/tokenizer/sentencepiece_module/module.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define CONCLAVE_SANITIZED 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define CONCLAVE_SANITIZED 1
#endif

namespace conclave::engine {
namespace {

struct Library {
  decltype(&ConclaveSpCreate) create = nullptr;
  decltype(&ConclaveSpDestroy) destroy = nullptr;
  decltype(&ConclaveSpEncode) encode = nullptr;
};

absl::Status Missing(std::string_view what) {
  return FailedPrecondition(
      "this model's tokenizer needs the sentencepiece library (Debian: "
      "libsentencepiece0), which does not open: {}",
      what);
}

void* OpenModule(const char* path) {
#ifdef CONCLAVE_SANITIZED
  // Sanitizers refuse RTLD_DEEPBIND. A namespace of its own isolates as well,
  // but has a second malloc, which never hears of a thread's end and leaks a
  // cache for each: good enough for tests only.
  return dlmopen(LM_ID_NEWLM, path, RTLD_NOW | RTLD_LOCAL);
#else
  return dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND);
#endif
}

template <typename Function>
bool Find(void* module, const char* name, Function* function) {
  *function = reinterpret_cast<Function>(dlsym(module, name));
  return *function != nullptr;
}

absl::StatusOr<Library> Open() {
  const std::span<const std::byte> image = SentencePieceImage();
  const int file = memfd_create("conclave_sentencepiece", MFD_CLOEXEC);
  if (file < 0) return Missing(std::strerror(errno));
  const ssize_t written = write(file, image.data(), image.size());
  void* module = nullptr;
  if (written == static_cast<ssize_t>(image.size())) {
    module = OpenModule(("/proc/self/fd/" + std::to_string(file)).c_str());
  }
  close(file);
  if (module == nullptr) {
    const char* why = dlerror();
    return Missing(why != nullptr ? why : "no memory for its module");
  }
  Library library;
  if (!Find(module, "ConclaveSpCreate", &library.create) ||
      !Find(module, "ConclaveSpDestroy", &library.destroy) ||
      !Find(module, "ConclaveSpEncode", &library.encode)) {
    return Missing(dlerror());
  }
  return library;
}

const absl::StatusOr<Library>& TheLibrary() {
  static const auto* const library = new absl::StatusOr<Library>(Open());
  return *library;
}

}  // namespace

absl::StatusOr<std::unique_ptr<SentencePieceProcessor>>
SentencePieceProcessor::Create(std::string_view proto) {
  RETURN_IF_ERROR(TheLibrary());
  ConclaveSpError error;
  void* processor = TheLibrary()->create(proto.data(), proto.size(), &error);
  if (processor == nullptr) {
    return InvalidArgument("sentencepiece refuses the vocabulary: {}",
                           error.text);
  }
  return std::unique_ptr<SentencePieceProcessor>(
      new SentencePieceProcessor(processor));
}

SentencePieceProcessor::~SentencePieceProcessor() {
  TheLibrary()->destroy(processor_);
}

absl::Status SentencePieceProcessor::Encode(std::string_view text,
                                            std::vector<int32_t>* ids) const {
  ConclaveSpError error;
  const auto take = [](void* context, const int* found, size_t count) {
    auto* out = static_cast<std::vector<int32_t>*>(context);
    out->insert(out->end(), found, found + count);
  };
  if (TheLibrary()->encode(processor_, text.data(), text.size(), take, ids,
                           &error)) {
    return absl::OkStatus();
  }
  return Internal("sentencepiece: {}", error.text);
}

}  // namespace conclave::engine
