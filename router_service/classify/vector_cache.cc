#include "router_service/classify/vector_cache.h"

#include <cmath>
#include <set>
#include <span>

namespace conclave::router {
namespace {

Hash128 KeyOf(std::string_view text) {
  return Xxh3_128(std::as_bytes(std::span(text)));
}

}  // namespace

absl::StatusOr<std::vector<float>> Normalised(std::vector<float> vector) {
  double square = 0;
  for (float value : vector) square += double(value) * value;
  if (!std::isfinite(square) || square <= 0) {
    return InvalidArgument(
        "the encoder gave a vector of {} values and squared length {}",
        vector.size(), square);
  }
  const auto scale = static_cast<float>(1 / std::sqrt(square));
  for (float& value : vector) value *= scale;
  return vector;
}

absl::StatusOr<std::vector<std::vector<float>>> VectorCache::Get(
    const std::vector<std::string>& texts, const EmbedFn& embed,
    const std::function<bool()>& go_on) {
  std::vector<std::vector<float>> out;
  out.reserve(texts.size());
  for (const std::string& text : texts) {
    const Hash128 key = KeyOf(text);
    {
      std::lock_guard lock(mutex_);
      const auto found = vectors_.find(key);
      if (found != vectors_.end()) out.push_back(found->second);
    }
    if (out.size() <= static_cast<size_t>(&text - texts.data())) {
      if (!go_on()) return Cancelled("newer samples are waiting");
      ASSIGN_OR_RETURN(std::vector<float> raw, embed(text));
      ASSIGN_OR_RETURN(std::vector<float> vector, Normalised(std::move(raw)));
      std::lock_guard lock(mutex_);
      ++num_embedded_;
      vectors_[key] = vector;
      out.push_back(std::move(vector));
    }
    if (out.back().size() != out.front().size()) {
      return FailedPrecondition("the encoder gave {} values, then {}",
                                out.front().size(), out.back().size());
    }
  }
  return out;
}

void VectorCache::KeepOnly(const std::vector<std::string>& texts) {
  std::set<Hash128> wanted;
  for (const std::string& text : texts) wanted.insert(KeyOf(text));
  std::lock_guard lock(mutex_);
  std::erase_if(vectors_, [&](const auto& entry) {
    return !wanted.contains(entry.first);
  });
}

size_t VectorCache::size() const {
  std::lock_guard lock(mutex_);
  return vectors_.size();
}

int64_t VectorCache::num_embedded() const {
  std::lock_guard lock(mutex_);
  return num_embedded_;
}

}  // namespace conclave::router
