// conclave_bench_clinc [DATA_FOLDER [VECTORS]]: accuracy, calibration,
// out-of-scope recall and latency of the classifier on CLINC150.
#include <fmt/core.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <numeric>
#include <random>

#include "base/clock.h"
#include "bench/clinc_bench/clinc_data.h"
#include "bench/clinc_bench/hot_add.h"
#include "bench/clinc_bench/report.h"

namespace conclave::bench {
namespace {

using router::Classifier;
using router::TextPart;

double SecondsSince(int64_t start) {
  return double(Clock::Real().MonotonicNanos() - start) * 1e-9;
}

// Trains both tiers on `rows` and says how long each took.
std::shared_ptr<const Classifier> Train(
    const std::string& name, const std::vector<const ClincRow*>& rows,
    Labels labels, bool encoder) {
  std::vector<router::LabelledText> samples;
  std::map<std::string, const ClincRow*> row_of;
  for (const ClincRow* row : rows) {
    samples.push_back(
        {.text = row->text,
         .category = labels == Labels::kIntent ? row->intent : row->domain});
    row_of[row->text] = row;
  }
  auto set = std::make_shared<const router::TrainingSet>(
      router::MakeTrainingSet(std::move(samples)));
  int64_t start = Clock::Real().MonotonicNanos();
  auto classifier = Classifier::Train(set);
  fmt::print("{}: {} samples, {} categories; n-gram tier trained in {:.3f} s",
             name, set->texts.size(), set->categories.size(),
             SecondsSince(start));
  if (encoder) {
    std::vector<std::vector<float>> vectors;
    for (const std::string& text : set->texts) {
      vectors.push_back(row_of[text]->vector);
    }
    start = Clock::Real().MonotonicNanos();
    classifier = Classifier::WithEncoder(classifier, vectors);
    fmt::print(", encoder tier in {:.3f} s (vectors given)",
               SecondsSince(start));
  }
  for (auto tier : {router::Tier::kNgram, router::Tier::kEncoder}) {
    const router::TierReport report = classifier->report(tier);
    fmt::print("; held out: {:.2f} % of {}, ECE {:.2f} %, sharpness {:.2f}",
               100 * report.accuracy, report.num_judged,
               100 * report.calibration_error, report.sharpness);
  }
  fmt::print("\n");
  return classifier;
}

void PrintAll(const std::string& name, const Classifier& classifier,
              const Clinc& clinc, Labels labels) {
  Print(name + ", fast tier", Evaluate(classifier, clinc, labels, Use::kFast));
  if (!classifier.has_encoder()) return;
  Print(name + ", both tiers", Evaluate(classifier, clinc, labels, Use::kBoth));
  Print(name + ", cascade", Evaluate(classifier, clinc, labels, Use::kCascade));
}

// `count` samples of every domain, drawn without replacement.
std::vector<const ClincRow*> FewShot(const Clinc& clinc, size_t count,
                                     uint64_t seed) {
  std::map<std::string, std::vector<const ClincRow*>> by_domain;
  for (const ClincRow& row : clinc.train) by_domain[row.domain].push_back(&row);
  std::mt19937_64 random(seed);
  std::vector<const ClincRow*> chosen;
  for (auto& [domain, rows] : by_domain) {
    for (size_t i = rows.size(); i > 1; --i) {
      std::swap(rows[i - 1], rows[random() % i]);
    }
    chosen.insert(chosen.end(), rows.begin(),
                  rows.begin() + std::min(count, rows.size()));
  }
  return chosen;
}

void FewShotRun(const Clinc& clinc, size_t count) {
  constexpr uint64_t kSeeds = 5;
  double fast = 0, both = 0;
  std::shared_ptr<const Classifier> classifier;
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    classifier =
        Train(fmt::format("10 domains x {}, seed {}", count, seed),
              FewShot(clinc, count, seed), Labels::kDomain, clinc.has_vectors);
    fast += Evaluate(*classifier, clinc, Labels::kDomain, Use::kFast).accuracy;
    if (clinc.has_vectors) {
      both +=
          Evaluate(*classifier, clinc, Labels::kDomain, Use::kBoth).accuracy;
    }
  }
  fmt::print(
      "10 domains x {}, mean of {} draws: fast {:.2f} %, both {:.2f} %\n",
      count, kSeeds, 100 * fast / kSeeds, 100 * both / kSeeds);
  PrintAll(fmt::format("10 domains x {}, last draw", count), *classifier, clinc,
           Labels::kDomain);
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

void Latency(const Classifier& classifier, const Clinc& clinc, size_t tokens,
             int rounds) {
  std::mt19937_64 random(5);
  std::vector<double> micros;
  for (int i = 0; i < rounds; ++i) {
    const std::string text = LongText(clinc, tokens, &random);
    const TextPart part{.text = text, .weight = 1};
    const int64_t start = Clock::Real().MonotonicNanos();
    const auto reading = classifier.ReadFast({&part, 1});
    micros.push_back(SecondsSince(start) * 1e6);
    if (reading.posterior.empty()) fmt::print("no posterior\n");
  }
  std::sort(micros.begin(), micros.end());
  fmt::print(
      "fast tier, {} categories, {:>5} tokens: p50 {:.0f} us, p99 {:.0f} us\n",
      classifier.categories().size(), tokens, micros[rounds / 2],
      micros[rounds * 99 / 100]);
}

int Main(int argc, char** argv) {
  const std::string folder = argc > 1 ? argv[1] : "../shared/data";
  const char* home = std::getenv("HOME");
  const std::string vectors =
      argc > 2 ? argv[2]
               : std::string(home == nullptr ? "." : home) +
                     "/.cache/conclave/bench/clinc_minilm.f32";
  const absl::StatusOr<Clinc> clinc = LoadClinc(folder, vectors);
  if (!clinc.ok()) {
    fmt::print("SKIPPED: {}\n", Message(clinc.status()));
    return clinc.status().code() == absl::StatusCode::kNotFound ? 0 : 1;
  }
  if (!clinc->has_vectors) {
    fmt::print(
        "SKIPPED: the encoder tier; no vectors at {} (see "
        "bench/clinc_bench/make_vectors.py)\n",
        vectors);
  }
  HotAdd(*clinc, false, 20);
  HotAdd(*clinc, true, 20);
  HotAdd(*clinc, true, 100);
  for (size_t count : {5, 20, 50}) FewShotRun(*clinc, count);

  std::vector<const ClincRow*> all;
  for (const ClincRow& row : clinc->train) all.push_back(&row);
  const auto domains =
      Train("10 domains, all", all, Labels::kDomain, clinc->has_vectors);
  PrintAll("10 domains, all", *domains, *clinc, Labels::kDomain);
  const auto intents =
      Train("150 intents", all, Labels::kIntent, clinc->has_vectors);
  PrintAll("150 intents", *intents, *clinc, Labels::kIntent);
  for (const auto& classifier : {domains, intents}) {
    Latency(*classifier, *clinc, 16, 2000);
    Latency(*classifier, *clinc, 512, 1000);
    Latency(*classifier, *clinc, 8192, 100);
  }
  return 0;
}

}  // namespace
}  // namespace conclave::bench

int main(int argc, char** argv) { return conclave::bench::Main(argc, argv); }
