// Pages that were computed before, found again by their tokens: a
// conversation's next turn, a system prompt that many requests share, a
// preempted sequence.
//
//   tenant -> [t0 .. t31] -> [t32 .. t63] -> [t64 .. t70]
//                        \-> [t32 .. t63'] -> ...
//
// A tree for each tenant; a node is a page, under the tokens it holds. The
// tokens are the key, compared in full: nothing is hashed, so nothing can
// collide. A tenant never finds another's text, not even by timing. The cache
// belongs to one engine, hence to one version of one model.
//
// Only a leaf may hold fewer than 32 tokens: where a sequence ended. A hit in
// the middle of a page copies the page. Keys and values of a position depend
// on the tokens up to it and on nothing else, so a hit gives the same bits as
// computing.
//
// Invariant: who holds a node's page holds its ancestors' too. (A sequence that
// computed a page which is already here takes the one from here instead.) So
// whatever is idle can be freed from the leaves inwards, least recently used
// first.
//
// Threads: none; the engine's own.
#ifndef CONCLAVE_EXPERT_WORKERS_ENGINE_PREFIX_CACHE_H_
#define CONCLAVE_EXPERT_WORKERS_ENGINE_PREFIX_CACHE_H_

#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "expert_workers/engine/kv_cache.h"
#include "expert_workers/engine/prefix_cache_stats.h"
#include "expert_workers/engine/sequence.h"

namespace conclave::engine {

// By tokens; may be asked with a stretch of a longer list.
struct TokensLess {
  using is_transparent = void;
  bool operator()(std::span<const int32_t> a,
                  std::span<const int32_t> b) const {
    return std::lexicographical_compare(a.begin(), a.end(), b.begin(), b.end());
  }
};

struct PrefixNode {
  using Children =
      std::map<std::vector<int32_t>, std::unique_ptr<PrefixNode>, TokensLess>;
  PrefixNode* parent = nullptr;  // nullptr: a tenant's root, which has no page
  std::string tenant;            // a root's
  Children::iterator self;       // in parent->children, with the tokens
  int32_t page = -1;
  uint64_t last_used = 0;
  // None begins with another's tokens.
  Children children;
};

class PrefixCache final : public PageEvictor {
 public:
  // `cache` outlives it, and asks it for idle pages from now on.
  explicit PrefixCache(KvCache* cache);
  ~PrefixCache() override;
  PrefixCache(const PrefixCache&) = delete;
  PrefixCache& operator=(const PrefixCache&) = delete;

  // Gives `sequence`, which has no pages, those of its longest known
  // beginning, and counts them as computed. `whole_pages`: leaves out a page
  // that matches only in part, which would have to be copied.
  void Attach(Sequence& sequence, bool whole_pages);
  // What Attach did came to nothing: gives the pages back.
  void Detach(Sequence& sequence);
  // Attach has come to something: counts it.
  void CountLookup(const Sequence& sequence);

  // Pages that others computed since: takes those that come next in
  // `sequence`, instead of its own uncomputed ones.
  void Extend(Sequence& sequence);
  // The full pages that `sequence` has computed are known from now on.
  void Learn(Sequence& sequence);
  // The rest too, for `sequence` is about to release its pages.
  void LearnTail(Sequence& sequence);

  void FreeOne() override;

  const PrefixCacheStats& stats() const { return stats_; }

 private:
  // Where `sequence` has come to; nullptr when its tenant has no tree.
  PrefixNode* FindNode(const Sequence& sequence);
  PrefixNode& MakeNode(const Sequence& sequence);
  // The child whose tokens agree longest with `tokens`, and how many do.
  std::pair<PrefixNode*, int64_t> Closest(PrefixNode& node,
                                          std::span<const int32_t> tokens);
  // A new child for `page`. Whatever begins its tokens gives way.
  PrefixNode* AddChild(PrefixNode& node, std::span<const int32_t> tokens,
                       int32_t page);
  // Marks `node` and its ancestors as used now.
  void Touch(PrefixNode* node);
  void RemoveLeaf(PrefixNode* node);

  KvCache* const cache_;
  std::map<std::string, std::unique_ptr<PrefixNode>> roots_;
  // Nodes with pages and without children, by last use.
  std::set<std::pair<uint64_t, PrefixNode*>> leaves_;
  uint64_t now_ = 0;  // a tick each use
  PrefixCacheStats stats_;
};

}  // namespace conclave::engine

#endif  // CONCLAVE_EXPERT_WORKERS_ENGINE_PREFIX_CACHE_H_
