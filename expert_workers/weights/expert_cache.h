// The experts of a mixture that is larger than the memory it may have: read
// from the store when a layer's tokens choose them, kept while there is room;
// the longest unused goes first. Equal experts (an upcycled model's copies)
// are one entry.
//
// Threads: none; one engine uses it. Reads with a few threads of its own.
#ifndef CONCLAVE_EXPERT_WORKERS_WEIGHTS_EXPERT_CACHE_H_
#define CONCLAVE_EXPERT_WORKERS_WEIGHTS_EXPERT_CACHE_H_

#include <atomic>
#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <span>
#include <vector>

#include "base/status.h"
#include "expert_workers/weights/unit_memory.h"
#include "expert_workers/weights/unit_views.h"
#include "expert_workers/weights/weight_store.h"

namespace conclave::weights {

struct ExpertCacheStats {
  int64_t hits = 0;  // experts wanted that were there
  int64_t reads = 0;
  int64_t evictions = 0;
  int64_t read_nanos = 0;
  int64_t resident_bytes = 0;
};

class ExpertCache {
 public:
  // Whether `unit` is one MoE expert, which a cache may read when it is wanted.
  static bool IsExpert(const UnitInfo& unit);
  // What the manifest's largest expert takes in memory; 0: it has none.
  static int64_t LargestFootprint(const ModelManifest& manifest);

  // `budget_bytes` is at least LargestFootprint. Says in `views` where experts
  // are. All outlive it.
  ExpertCache(WeightStore* store, const ModelManifest* manifest,
              int64_t budget_bytes, UnitViews* views);

  // Brings some experts of a layer, in this order, each named once. The first
  // n of them, which it returns, may be used until the next call; n is less
  // than all where no more fit at once, or where the next one cannot be read:
  // ask again for the rest. `moved` gets those of the n whose place in memory
  // is another than when this layer last had them.
  //   DATA_LOSS  the first one is corrupt: names the unit; never tried again
  //   others     why the first one cannot be read
  absl::StatusOr<size_t> Bring(int64_t layer, std::span<const int64_t> experts,
                               std::vector<int64_t>* moved);

  // Whether Bring would find it in memory.
  bool Has(int64_t layer, int64_t expert) const;

  // Any thread.
  ExpertCacheStats Stats() const;

 private:
  // One expert in memory, however many layers name it.
  struct Entry {
    Hash128 digest;
    UnitMemory memory;
    int64_t footprint = 0;
    uint64_t age = 0;   // which read: a later one lies elsewhere
    uint64_t call = 0;  // the last Bring that wanted it
  };
  using Entries = std::list<Entry>;  // longest unused first
  struct Expert {
    const UnitInfo* unit = nullptr;
    uint64_t seen = 0;  // the entry's age when Bring last returned it
  };

  absl::StatusOr<Expert*> Find(int64_t layer, int64_t expert);
  // Room for `footprint`, from entries that this call has not used.
  bool MakeRoom(int64_t footprint);
  void Drop(Entries::iterator entry);
  // Reads the units that `fresh` stand for; returns the outcome of each.
  std::vector<absl::Status> Read(const std::vector<const UnitInfo*>& units,
                                 const std::vector<Entry*>& fresh);

  WeightStore* const store_;
  const int64_t budget_;
  UnitViews* const views_;

  std::vector<std::vector<Expert>> layers_;  // [layer][expert]
  std::map<Hash128, std::vector<const UnitInfo*>> named_by_;
  Entries entries_;
  std::map<Hash128, Entries::iterator> by_digest_;
  std::map<Hash128, absl::Status> corrupt_;
  std::vector<UnitMemory> spare_;  // of those dropped, for those read next
  int64_t used_ = 0;               // footprints of entries_
  uint64_t calls_ = 0;
  uint64_t ages_ = 0;

  std::atomic<int64_t> hits_ = 0;
  std::atomic<int64_t> reads_ = 0;
  std::atomic<int64_t> evictions_ = 0;
  std::atomic<int64_t> read_nanos_ = 0;
  std::atomic<int64_t> resident_ = 0;
};

}  // namespace conclave::weights

#endif  // CONCLAVE_EXPERT_WORKERS_WEIGHTS_EXPERT_CACHE_H_
