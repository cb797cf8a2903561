#include "bench/clinc_bench/latency.h"

#include <fmt/core.h>
#include <time.h>

#include <algorithm>
#include <cstdio>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "base/check.h"
#include "base/clock.h"
#include "router_service/policy/policy.h"

namespace conclave::bench {
namespace {

using router::RoutingPolicy;

std::string LabelOf(const ClincRow& row, Labels labels) {
  return labels == Labels::kIntent ? row.intent : row.domain;
}

std::shared_ptr<const registry::Snapshot> SnapshotOf(const Clinc& clinc,
                                                     Labels labels) {
  std::map<std::string, registry::ExpertSpec> experts;
  for (const ClincRow& row : clinc.train) {
    const std::string label = LabelOf(row, labels);
    experts[label].samples.push_back({.text = row.text, .category = label});
  }
  auto snapshot = std::make_shared<registry::Snapshot>();
  snapshot->revision = 1;
  const auto add = [&](std::string name, registry::ExpertSpec spec) {
    spec.name = name;
    spec.version = 1;
    spec.model = "model";
    spec.categories = {name};
    snapshot->experts[name] =
        std::make_shared<const registry::ExpertSpec>(std::move(spec));
  };
  for (auto& [label, spec] : experts) add(label, std::move(spec));
  add("general", {});
  return snapshot;
}

// A prompt of about `tokens` tokens (4 bytes each), made of queries.
std::string LongText(const Clinc& clinc, size_t tokens,
                     std::mt19937_64* random) {
  std::string text;
  while (text.size() < 4 * tokens) {
    text += clinc.val[(*random)() % clinc.val.size()].text + ". ";
  }
  text.resize(4 * tokens);
  return text;
}

v1::RouteRequest RequestOf(std::string text) {
  v1::RouteRequest request;
  request.set_request_id("bench");
  request.set_model("auto");
  v1::ChatMessage* message = request.mutable_chat()->add_messages();
  message->set_role("user");
  message->set_content(std::move(text));
  return request;
}

// Processor time of this thread: what other work on the machine does not add
// to.
int64_t ProcessorNanos() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return int64_t{now.tv_sec} * 1000000000 + now.tv_nsec;
}

double Micros(int64_t begin, int64_t end) {
  return static_cast<double>(end - begin) * 1e-3;
}

double Quantile(std::vector<double> values, double share) {
  std::sort(values.begin(), values.end());
  return values[static_cast<size_t>(share *
                                    static_cast<double>(values.size() - 1))];
}

// Decides on each of `texts`; prints what `what` describes.
void Time(const std::string& what, const RoutingPolicy& policy,
          const registry::Snapshot& snapshot, std::string_view tier,
          const std::vector<std::string>& texts) {
  std::vector<double> whole, processor, reading;
  for (const std::string& text : texts) {
    const v1::RouteRequest request = RequestOf(text);
    const int64_t processor_begin = ProcessorNanos();
    const int64_t begin = Clock::Real().MonotonicNanos();
    const auto routing = policy.Decide(request, snapshot);
    const int64_t end = Clock::Real().MonotonicNanos();
    processor.push_back(Micros(processor_begin, ProcessorNanos()));
    CHECK(routing.ok(), "{}", Message(routing.status()));
    CHECK(routing->decision.tier() == tier, "tier {}",
          routing->decision.tier());
    whole.push_back(Micros(begin, end));

    const auto classifier = policy.live().current();
    const router::TextPart part{.text = text, .weight = 1};
    const int64_t start = ProcessorNanos();
    const router::Reading fast = classifier->ReadFast({&part, 1});
    reading.push_back(Micros(start, ProcessorNanos()));
    CHECK(!fast.posterior.empty());
  }
  fmt::print(
      "decision, {}: p50 {:.0f} us, p90 {:.0f}, p99 {:.0f}, least {:.0f}; this "
      "thread's processor time p50 {:.0f}, of it the n-grams' reading {:.0f}\n",
      what, Quantile(whole, 0.5), Quantile(whole, 0.9), Quantile(whole, 0.99),
      Quantile(whole, 0), Quantile(processor, 0.5), Quantile(reading, 0.5));
  std::fflush(stdout);
}

}  // namespace

void FastLatency(const Clinc& clinc, Labels labels) {
  const auto snapshot = SnapshotOf(clinc, labels);
  RoutingPolicy policy;
  policy.OnSnapshot(snapshot);
  CHECK(policy.WaitForFastTier(absl::Minutes(5)));
  for (const auto& [tokens, rounds] :
       {std::pair(16, 2000), std::pair(512, 1000), std::pair(8192, 100)}) {
    std::mt19937_64 random(5);
    std::vector<std::string> texts;
    for (int i = 0; i < rounds; ++i) {
      texts.push_back(LongText(clinc, static_cast<size_t>(tokens), &random));
    }
    Time(fmt::format("fast tier, {} experts, {:>5} tokens",
                     snapshot->experts.size(), tokens),
         policy, *snapshot, "ngram", texts);
  }
}

void EncoderLatency(const Clinc& clinc, Labels labels,
                    const router::EmbedFn& embed) {
  std::map<std::string_view, const ClincRow*> row_of;
  for (const ClincRow& row : clinc.train) row_of[row.text] = &row;
  const auto snapshot = SnapshotOf(clinc, labels);
  router::PolicyOptions options;
  options.sure_enough = 2;  // never: the encoder is always asked
  router::PolicyDependencies dependencies;
  dependencies.embed =
      [&](std::string_view text) -> absl::StatusOr<std::vector<float>> {
    const auto known = row_of.find(text);
    if (known != row_of.end()) return known->second->vector;
    return embed(text);
  };
  RoutingPolicy policy(options, dependencies);
  policy.OnSnapshot(snapshot);
  CHECK(policy.WaitForAllTiers(absl::Minutes(5)));
  std::vector<std::string> queries, long_texts;
  std::mt19937_64 random(6);
  for (int i = 0; i < 300; ++i) {
    const ClincRow& row = clinc.val[random() % clinc.val.size()];
    if (!row_of.contains(row.text)) queries.push_back(row.text);
    if (i < 150) long_texts.push_back(LongText(clinc, 128, &random));
  }
  Time(fmt::format("encoder tier, {} experts, a query of CLINC150",
                   snapshot->experts.size()),
       policy, *snapshot, "encoder", queries);
  Time(fmt::format("encoder tier, {} experts, about 128 tokens",
                   snapshot->experts.size()),
       policy, *snapshot, "encoder", long_texts);
}

}  // namespace conclave::bench
