#include "expert_workers/engine/prefix_cache.h"

#include "base/check.h"

namespace conclave::engine {
namespace {

using kernels::kKvPageTokens;

// `count` tokens from `first`.
std::span<const int32_t> Slice(const Sequence& sequence, int64_t first,
                               int64_t count) {
  return std::span<const int32_t>(sequence.tokens)
      .subspan(static_cast<size_t>(first), static_cast<size_t>(count));
}

std::span<const int32_t> PageTokens(const Sequence& sequence, int64_t page) {
  return Slice(sequence, page * kKvPageTokens, kKvPageTokens);
}

int64_t CommonLength(std::span<const int32_t> a, std::span<const int32_t> b) {
  const auto end = std::mismatch(a.begin(), a.end(), b.begin(), b.end());
  return end.first - a.begin();
}

}  // namespace

PrefixCache::PrefixCache(KvCache* cache) : cache_(cache) {
  cache_->set_evictor(this);
}

PrefixCache::~PrefixCache() {
  // Leaf by leaf: a long text is a deep tree.
  while (!leaves_.empty()) RemoveLeaf(leaves_.begin()->second);
  cache_->set_evictor(nullptr);
}

void PrefixCache::Attach(Sequence& sequence, bool whole_pages) {
  CHECK(sequence.pages.num_pages() == 0 && sequence.computed == 0 &&
            sequence.known_pages == 0,
        "{} pages", sequence.pages.num_pages());
  PrefixNode* node = FindNode(sequence);
  if (node == nullptr) return;
  const int64_t limit = sequence.reuse_limit();
  int64_t length = 0;
  for (; length + kKvPageTokens <= limit; length += kKvPageTokens) {
    const auto child =
        node->children.find(PageTokens(sequence, length / kKvPageTokens));
    if (child == node->children.end()) break;
    node = child->second.get();
    cache_->Append(sequence.pages, node->page);
    sequence.known = node;
    ++sequence.known_pages;
  }
  if (!whole_pages && length < limit) {
    const int64_t left = std::min(limit - length, kKvPageTokens);
    const auto [child, agree] = Closest(*node, Slice(sequence, length, left));
    if (agree > 0) {
      cache_->Append(sequence.pages, child->page);
      length += agree;
      node = child;
    }
  }
  if (length > 0) Touch(node);
  sequence.computed = length;
  sequence.reused = length;
}

void PrefixCache::Detach(Sequence& sequence) {
  cache_->Release(sequence.pages);
  sequence.computed = 0;
  sequence.reused = 0;
  sequence.known = nullptr;
  sequence.known_pages = 0;
}

void PrefixCache::CountLookup(const Sequence& sequence) {
  ++stats_.lookups;
  stats_.tokens_wanted += sequence.size();
  stats_.hits += sequence.reused > 0;
  stats_.tokens_saved += sequence.reused;
}

void PrefixCache::Extend(Sequence& sequence) {
  const int64_t before = sequence.computed;
  const int64_t limit = sequence.reuse_limit();
  for (;;) {
    const int64_t page = sequence.known_pages;
    const bool has_page = page < sequence.pages.num_pages();
    if ((page + 1) * kKvPageTokens > limit) break;
    if (!has_page && sequence.pages.reserved() == 0) break;
    PrefixNode* node = FindNode(sequence);
    if (node == nullptr) break;
    const auto child = node->children.find(PageTokens(sequence, page));
    if (child == node->children.end()) break;
    if (has_page) {
      cache_->Replace(sequence.pages, page, child->second->page);
    } else {
      cache_->Append(sequence.pages, child->second->page);
      cache_->Unreserve(sequence.pages, 1);
    }
    sequence.known = child->second.get();
    ++sequence.known_pages;
    sequence.computed = sequence.known_pages * kKvPageTokens;
  }
  const int64_t saved = sequence.computed - before;
  if (saved == 0) return;
  stats_.hits += sequence.reused == 0;
  stats_.tokens_saved += saved;
  sequence.reused += saved;
}

void PrefixCache::Learn(Sequence& sequence) {
  const int64_t full = sequence.computed / kKvPageTokens;
  while (sequence.known_pages < full) {
    const int64_t page = sequence.known_pages;
    PrefixNode& node = MakeNode(sequence);
    const auto tokens = PageTokens(sequence, page);
    const auto child = node.children.find(tokens);
    if (child != node.children.end()) {
      // Somebody was first: the same bits, once.
      cache_->Replace(sequence.pages, page, child->second->page);
      sequence.known = child->second.get();
    } else {
      sequence.known = AddChild(node, tokens, sequence.pages.page(page));
    }
    ++sequence.known_pages;
  }
}

void PrefixCache::LearnTail(Sequence& sequence) {
  Learn(sequence);
  const int64_t first = sequence.known_pages * kKvPageTokens;
  const int64_t count = sequence.computed - first;
  PrefixNode* last = sequence.known;
  if (count > 0) {
    PrefixNode& node = MakeNode(sequence);
    const auto tokens = Slice(sequence, first, count);
    const auto [child, agree] = Closest(node, tokens);
    last = agree == count ? child
                          : AddChild(node, tokens,
                                     sequence.pages.page(sequence.known_pages));
  }
  if (last != nullptr) Touch(last);
}

void PrefixCache::FreeOne() {
  // Each running sequence keeps one leaf busy at most, so few are passed over.
  for (const auto& [last_used, leaf] : leaves_) {
    if (!cache_->IsIdle(leaf->page)) continue;
    RemoveLeaf(leaf);
    ++stats_.evicted_pages;
    return;
  }
  CHECK(false, "no idle page among {} leaves", leaves_.size());
}

PrefixNode* PrefixCache::FindNode(const Sequence& sequence) {
  if (sequence.known != nullptr) return sequence.known;
  const auto root = roots_.find(sequence.tenant);
  return root == roots_.end() ? nullptr : root->second.get();
}

PrefixNode& PrefixCache::MakeNode(const Sequence& sequence) {
  if (PrefixNode* node = FindNode(sequence); node != nullptr) return *node;
  auto root = std::make_unique<PrefixNode>();
  root->tenant = sequence.tenant;
  return *(roots_[sequence.tenant] = std::move(root));
}

std::pair<PrefixNode*, int64_t> PrefixCache::Closest(
    PrefixNode& node, std::span<const int32_t> tokens) {
  // In sorted order the longest agreement is with a neighbour.
  std::pair<PrefixNode*, int64_t> best = {nullptr, 0};
  const auto next = node.children.lower_bound(tokens);
  const auto look = [&](PrefixNode::Children::iterator at) {
    const int64_t agree = CommonLength(tokens, at->first);
    if (agree > best.second) best = {at->second.get(), agree};
  };
  if (next != node.children.end()) look(next);
  if (next != node.children.begin()) look(std::prev(next));
  return best;
}

PrefixNode* PrefixCache::AddChild(PrefixNode& node,
                                  std::span<const int32_t> tokens,
                                  int32_t page) {
  const auto [closest, agree] = Closest(node, tokens);
  auto child = std::make_unique<PrefixNode>();
  PrefixNode* added = child.get();
  added->parent = &node;
  added->page = page;
  added->last_used = ++now_;
  cache_->Keep(page);
  ++stats_.pages;
  if (node.children.empty()) leaves_.erase({node.last_used, &node});
  added->self = node.children
                    .emplace(std::vector<int32_t>(tokens.begin(), tokens.end()),
                             std::move(child))
                    .first;
  leaves_.emplace(added->last_used, added);
  // After the new one is there, so that the parent never looks empty.
  if (closest != nullptr &&
      agree == static_cast<int64_t>(closest->self->first.size())) {
    RemoveLeaf(closest);
  }
  return added;
}

void PrefixCache::Touch(PrefixNode* node) {
  ++now_;
  for (; node->parent != nullptr; node = node->parent) {
    const bool is_leaf = leaves_.erase({node->last_used, node}) > 0;
    node->last_used = now_;
    if (is_leaf) leaves_.emplace(now_, node);
  }
}

void PrefixCache::RemoveLeaf(PrefixNode* node) {
  CHECK(node->children.empty() && node->parent != nullptr);
  PrefixNode* parent = node->parent;
  leaves_.erase({node->last_used, node});
  cache_->Drop(node->page);
  --stats_.pages;
  parent->children.erase(node->self);
  if (!parent->children.empty()) return;
  if (parent->parent != nullptr) {
    leaves_.emplace(parent->last_used, parent);
  } else {
    roots_.erase(parent->tenant);
  }
}

}  // namespace conclave::engine
