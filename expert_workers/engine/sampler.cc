#include "expert_workers/engine/sampler.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "expert_workers/engine/random.h"
#include "kernels/logits_math.h"

namespace conclave::engine {
namespace {

using kernels::ExpWeights;
using kernels::FindMax;
using kernels::kLogitBlock;
using kernels::MaxLogit;
using kernels::SumExp;

absl::Status BadLogits() {
  return Internal("the model produced logits without a finite maximum");
}

bool Better(float a, int32_t a_token, float b, int32_t b_token) {
  return a > b || (a == b && a_token < b_token);
}

// The `count` best (logit, token), best first, by a heap whose front is the
// worst kept: most logits cost one comparison.
std::vector<std::pair<float, int32_t>> BestTokens(std::span<const float> logits,
                                                  size_t count) {
  std::vector<std::pair<float, int32_t>> heap;
  heap.reserve(count + 1);
  const auto better = [](const auto& a, const auto& b) {
    return Better(a.first, a.second, b.first, b.second);
  };
  for (size_t i = 0; i < logits.size(); ++i) {
    // Ids ascend, so an equal logit never displaces one that is kept.
    if (heap.size() == count && !(logits[i] > heap.front().first)) continue;
    heap.emplace_back(logits[i], static_cast<int32_t>(i));
    std::push_heap(heap.begin(), heap.end(), better);
    if (heap.size() > count) {
      std::pop_heap(heap.begin(), heap.end(), better);
      heap.pop_back();
    }
  }
  std::sort_heap(heap.begin(), heap.end(), better);
  return heap;
}

// `max` is FindMax(logits), which the caller has computed anyway.
TokenEvent Score(std::span<const float> logits, const MaxLogit& max,
                 int32_t token, int32_t num_top) {
  const double log_sum =
      static_cast<double>(max.value) + std::log(SumExp(logits, max.value, 1.0));
  const auto logprob = [&](int32_t id) {
    return static_cast<float>(
        static_cast<double>(logits[static_cast<size_t>(id)]) - log_sum);
  };
  TokenEvent event{.token = token, .logprob = logprob(token), .top = {}};
  if (num_top > 0) {
    const size_t count = std::min(static_cast<size_t>(num_top), logits.size());
    for (const auto& [logit, id] : BestTokens(logits, count)) {
      event.top.push_back({id, logprob(id)});
    }
  }
  return event;
}

}  // namespace

absl::StatusOr<TokenEvent> ScoreToken(std::span<const float> logits,
                                      int32_t token, int32_t num_top) {
  const MaxLogit max = FindMax(logits);
  if (!max.valid) return BadLogits();
  return Score(logits, max, token, num_top);
}

Sampler::Sampler(const SamplingParams& params, uint64_t seed, int32_t answer,
                 std::span<const int32_t> prompt)
    : params_(params), seed_(seed), answer_(static_cast<uint32_t>(answer)) {
  if (params.repetition_penalty != 1.0f) {
    for (const int32_t token : prompt) seen_[token].in_prompt = true;
  }
}

absl::StatusOr<TokenEvent> Sampler::Sample(std::span<float> logits,
                                           int64_t position) {
  const MaxLogit raw_max = FindMax(logits);
  if (!raw_max.valid) return BadLogits();
  // Raw logits are needed again once the token is known; scoring them all
  // first would cost a pass of exp over the vocabulary for nothing.
  const bool adjusts =
      params_.repetition_penalty != 1.0f || params_.presence_penalty != 0.0f ||
      params_.frequency_penalty != 0.0f || !params_.logit_bias.empty();
  std::vector<float> raw;
  if (adjusts && params_.logprobs >= 0)
    raw.assign(logits.begin(), logits.end());
  if (adjusts) Adjust(logits);
  const MaxLogit max = adjusts ? FindMax(logits) : raw_max;
  if (!max.valid) return BadLogits();
  TokenEvent event;
  event.token =
      params_.temperature == 0.0f
          ? max.token
          : Draw(logits, max.value,
                 RandomUnit(seed_, answer_, static_cast<uint64_t>(position)));
  if (params_.logprobs >= 0) {
    event = Score(adjusts ? std::span<const float>(raw) : logits, raw_max,
                  event.token, params_.logprobs);
  }
  ++seen_[event.token].in_output;
  return event;
}

void Sampler::Adjust(std::span<float> logits) const {
  for (const auto& [token, seen] : seen_) {
    if (static_cast<size_t>(token) >= logits.size()) continue;
    float& logit = logits[static_cast<size_t>(token)];
    if (logit > 0) {
      logit /= params_.repetition_penalty;
    } else {
      logit *= params_.repetition_penalty;
    }
    if (seen.in_output > 0) {
      logit -= params_.frequency_penalty * static_cast<float>(seen.in_output);
      logit -= params_.presence_penalty;
    }
  }
  for (const auto& [token, bias] : params_.logit_bias) {
    if (static_cast<size_t>(token) < logits.size()) {
      logits[static_cast<size_t>(token)] += bias;
    }
  }
}

int32_t Sampler::Draw(std::span<const float> logits, float max, double unit) {
  const double scale = 1.0 / static_cast<double>(params_.temperature);
  const bool has_top_k =
      params_.top_k > 0 && static_cast<size_t>(params_.top_k) < logits.size();
  const bool has_top_p = params_.top_p < 1.0f;
  if (!has_top_k && !has_top_p && params_.min_p == 0.0f) {
    return DrawFromAll(logits, max, scale, unit);
  }
  const double top_p = static_cast<double>(params_.top_p);
  double total = 0;  // of what top-p sees
  if (has_top_k) {
    TakeTopK(logits);
    for (Candidate& c : candidates_) {
      ExpWeights({&c.logit, 1}, max, scale, &c.weight);
      total += c.weight;
    }
  } else {
    double least = 0;
    if (has_top_p) {
      // Tokens each lighter than (1 - p) / V of the total weigh less than
      // 1 - p together: the smallest set that reaches p needs none of them.
      total = SumExp(logits, max, scale);
      least = (1.0 - top_p) * total / static_cast<double>(logits.size());
    } else {
      least = static_cast<double>(params_.min_p);
    }
    TakeHeavy(logits, max, scale, least);
  }
  if (has_top_p) {
    double sum = 0;
    size_t keep = 0;
    while (keep < candidates_.size() && sum < top_p * total) {
      sum += candidates_[keep++].weight;
    }
    candidates_.resize(std::max<size_t>(keep, 1));
  }
  // The best weighs 1, so min_p is a bound on the weight itself.
  while (candidates_.size() > 1 &&
         candidates_.back().weight < static_cast<double>(params_.min_p)) {
    candidates_.pop_back();
  }
  double kept = 0;
  for (const Candidate& c : candidates_) kept += c.weight;
  double left = unit * kept;
  for (const Candidate& c : candidates_) {
    left -= c.weight;
    if (left < 0) return c.token;
  }
  return candidates_.front().token;  // rounding ate the last sliver
}

int32_t Sampler::DrawFromAll(std::span<const float> logits, float max,
                             double scale, double unit) const {
  std::array<double, kLogitBlock> weights;
  std::vector<double> block_sums;
  double total = 0;
  const auto weigh = [&](size_t begin) {
    const size_t count = std::min(kLogitBlock, logits.size() - begin);
    ExpWeights(logits.subspan(begin, count), max, scale, weights.data());
    return count;
  };
  for (size_t begin = 0; begin < logits.size(); begin += kLogitBlock) {
    const size_t count = weigh(begin);
    double sum = 0;
    for (size_t i = 0; i < count; ++i) sum += weights[i];
    block_sums.push_back(sum);
    total += sum;
  }
  double left = unit * total;
  for (size_t block = 0; block < block_sums.size(); ++block) {
    if (left >= block_sums[block]) {
      left -= block_sums[block];
      continue;
    }
    const size_t count = weigh(block * kLogitBlock);
    size_t last = 0;  // the last with any weight, should rounding pass them all
    for (size_t i = 0; i < count; ++i) {
      if (weights[i] > 0) last = i;
      left -= weights[i];
      if (left < 0) break;
    }
    return static_cast<int32_t>(block * kLogitBlock + last);
  }
  return FindMax(logits).token;  // rounding ate the last sliver
}

void Sampler::TakeTopK(std::span<const float> logits) {
  candidates_.clear();
  for (const auto& [logit, token] :
       BestTokens(logits, static_cast<size_t>(params_.top_k))) {
    candidates_.push_back({logit, token, 0.0});
  }
}

void Sampler::TakeHeavy(std::span<const float> logits, float max, double scale,
                        double least) {
  candidates_.clear();
  std::array<double, kLogitBlock> weights;
  for (size_t begin = 0; begin < logits.size(); begin += kLogitBlock) {
    const size_t count = std::min(kLogitBlock, logits.size() - begin);
    ExpWeights(logits.subspan(begin, count), max, scale, weights.data());
    for (size_t i = 0; i < count; ++i) {
      if (weights[i] >= least) {
        candidates_.push_back(
            {logits[begin + i], static_cast<int32_t>(begin + i), weights[i]});
      }
    }
  }
  std::sort(candidates_.begin(), candidates_.end(),
            [](const Candidate& a, const Candidate& b) {
              return Better(a.logit, a.token, b.logit, b.token);
            });
}

}  // namespace conclave::engine
