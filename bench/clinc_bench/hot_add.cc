#include "bench/clinc_bench/hot_add.h"

#include <fmt/core.h>

#include <algorithm>
#include <map>
#include <set>
#include <string_view>

#include "base/clock.h"
#include "router_service/classify/live_classifier.h"

namespace conclave::bench {
namespace {

constexpr size_t kNewSamples = 20;
const char kNewIntent[] = "translate";

// The first `limit` training texts of every intent that is in `intents`.
std::vector<router::LabelledText> Take(const Clinc& clinc,
                                       const std::set<std::string>& intents,
                                       size_t limit) {
  std::map<std::string, size_t> taken;
  std::vector<router::LabelledText> samples;
  for (const ClincRow& row : clinc.train) {
    if (!intents.contains(row.intent) || taken[row.intent]++ >= limit) {
      continue;
    }
    samples.push_back({.text = row.text, .category = row.intent});
  }
  return samples;
}

double Recall(const router::Classifier& classifier, const Clinc& clinc) {
  double right = 0, all = 0;
  for (const ClincRow& row : clinc.val) {
    if (row.intent != kNewIntent) continue;
    const router::TextPart part{.text = row.text, .weight = 1};
    router::Reading reading = classifier.ReadFast({&part, 1});
    if (classifier.has_encoder()) {
      reading = classifier.ReadBoth(reading, row.vector);
    }
    const auto top =
        std::max_element(reading.posterior.begin(), reading.posterior.end()) -
        reading.posterior.begin();
    right += classifier.categories()[top] == kNewIntent;
    all += 1;
  }
  return right / all;
}

std::set<std::string> IntentsOf(const Clinc& clinc, bool all_intents) {
  std::map<std::string, std::string> intent_of;  // domain, or intent itself
  for (const ClincRow& row : clinc.train) {
    if (row.intent == kNewIntent) continue;
    intent_of.emplace(all_intents ? row.intent : row.domain, row.intent);
  }
  std::set<std::string> intents;
  for (const auto& [key, intent] : intent_of) intents.insert(intent);
  return intents;
}

}  // namespace

void HotAdd(const Clinc& clinc, bool all_intents, size_t per_intent) {
  std::map<std::string_view, const ClincRow*> row_of;
  for (const ClincRow& row : clinc.train) row_of[row.text] = &row;
  router::EmbedFn embed;
  if (clinc.has_vectors) {
    embed = [&](std::string_view text) -> absl::StatusOr<std::vector<float>> {
      return row_of.at(text)->vector;
    };
  }
  router::LiveClassifier live(embed);
  const std::set<std::string> intents = IntentsOf(clinc, all_intents);
  std::vector<router::LabelledText> samples = Take(clinc, intents, per_intent);
  const auto update = [&] {
    live.Update([&samples] {
      return std::make_shared<const router::TrainingSet>(
          router::MakeTrainingSet(samples));
    });
  };
  update();
  live.WaitForAll(absl::Minutes(2));
  const size_t before = samples.size();
  for (router::LabelledText& sample : Take(clinc, {kNewIntent}, kNewSamples)) {
    samples.push_back(std::move(sample));
  }
  const int64_t start = Clock::Real().MonotonicNanos();
  update();
  live.WaitForFast(absl::Minutes(2));
  const double fast = double(Clock::Real().MonotonicNanos() - start) * 1e-6;
  const auto first = live.current();
  live.WaitForAll(absl::Minutes(2));
  const double all = double(Clock::Real().MonotonicNanos() - start) * 1e-6;
  fmt::print(
      "hot add of {} samples to {} ({} categories): served after {:.0f} ms{} "
      "(recall {:.0f} %), all tiers after {:.0f} ms (recall {:.0f} %)\n",
      kNewSamples, before, intents.size(), fast,
      first->provisional() ? " provisionally" : "", 100 * Recall(*first, clinc),
      all, 100 * Recall(*live.current(), clinc));
  std::fflush(stdout);
}

}  // namespace conclave::bench
