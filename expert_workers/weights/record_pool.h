// Memory that RocksDB reads records into: a few buffers, used again and again.
// From the system, each record's 4 MiB would come as a thousand fresh pages.
#ifndef CONCLAVE_EXPERT_WORKERS_WEIGHTS_RECORD_POOL_H_
#define CONCLAVE_EXPERT_WORKERS_WEIGHTS_RECORD_POOL_H_

#include <rocksdb/memory_allocator.h>

#include <cstddef>
#include <mutex>
#include <vector>

namespace conclave::weights {

class RecordPool final : public rocksdb::MemoryAllocator {
 public:
  ~RecordPool() override;
  const char* Name() const override { return "conclave.RecordPool"; }
  void* Allocate(size_t size) override;
  void Deallocate(void* block) override;

 private:
  std::mutex mutex_;
  std::vector<void*> idle_;  // buffers of kPooledBytes
};

}  // namespace conclave::weights

#endif  // CONCLAVE_EXPERT_WORKERS_WEIGHTS_RECORD_POOL_H_
