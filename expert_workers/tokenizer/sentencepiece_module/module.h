// The C face of the sentencepiece library. The library brings an old protobuf
// under the same symbol names as ours: linked into one program, or opened
// among its symbols, one of the two crashes. So it is only ever reached
// through this module, which is opened with its own symbols first and shows
// nothing but these functions.
//
// Nothing throws through them. Memory does not cross either: results go to the
// caller's function while the call lasts.
#ifndef CONCLAVE_EXPERT_WORKERS_TOKENIZER_SENTENCEPIECE_MODULE_MODULE_H_
#define CONCLAVE_EXPERT_WORKERS_TOKENIZER_SENTENCEPIECE_MODULE_MODULE_H_

#include <cstddef>

extern "C" {

// Where a failure's text goes, zero-terminated.
struct ConclaveSpError {
  char text[256];
};

// A processor of a serialized ModelProto; nullptr, with `error` filled, when
// the library refuses it.
void* ConclaveSpCreate(const char* proto, size_t size, ConclaveSpError* error);
void ConclaveSpDestroy(void* processor);

// Calls `take(context, ids, count)` once with the ids of `text`. False, with
// `error` filled, when the library fails. Any number of threads at once.
bool ConclaveSpEncode(const void* processor, const char* text, size_t size,
                      void (*take)(void* context, const int* ids, size_t count),
                      void* context, ConclaveSpError* error);

}  // extern "C"

#endif  // CONCLAVE_EXPERT_WORKERS_TOKENIZER_SENTENCEPIECE_MODULE_MODULE_H_
