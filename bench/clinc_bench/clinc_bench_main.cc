// conclave_bench_clinc: accuracy, calibration, out-of-scope recall and latency
// of routing on CLINC150, the sentence vectors from our own encoder.
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdlib>
#include <map>
#include <random>
#include <utility>

#include "base/clock.h"
#include "base/machine.h"
#include "bench/clinc_bench/clinc_data.h"
#include "bench/clinc_bench/hot_add.h"
#include "bench/clinc_bench/latency.h"
#include "bench/clinc_bench/own_vectors.h"
#include "bench/clinc_bench/report.h"

namespace conclave::bench {
namespace {

using router::Classifier;

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

struct Options {
  std::string data = "../shared/data";
  std::string vectors;
  std::string encoder = "all-MiniLM-L6-v2";
  std::vector<std::string> only;
};

absl::StatusOr<Options> Parse(int argc, char** argv) {
  Options options;
  const char* home = std::getenv("HOME");
  options.vectors = std::string(home == nullptr ? "." : home) +
                    "/.cache/conclave/bench/clinc_minilm.f32";
  CLI::App app("The classifier on CLINC150");
  app.add_option("--data", options.data, "Folder of the data");
  app.add_option("--vectors", options.vectors,
                 "The oracle's sentence vectors (make_vectors.py)");
  app.add_option("--encoder", options.encoder,
                 "Our encoder's model; \"\": use the oracle's vectors");
  app.add_option("--only", options.only, "hot-add, few, all or latency");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    app.exit(error);
    return InvalidArgument("{}", error.what());
  }
  return options;
}

void AccuracyOnAll(const Clinc& clinc) {
  std::vector<const ClincRow*> all;
  for (const ClincRow& row : clinc.train) all.push_back(&row);
  for (const auto& [name, labels] :
       {std::pair("10 domains, all", Labels::kDomain),
        std::pair("150 intents", Labels::kIntent)}) {
    PrintAll(name, *Train(name, all, labels, clinc.has_vectors), clinc, labels);
  }
}

void Latency(const Clinc& clinc, engine::Encoder* encoder) {
  for (const Labels labels : {Labels::kDomain, Labels::kIntent}) {
    FastLatency(clinc, labels);
    if (encoder == nullptr) continue;
    EncoderLatency(
        clinc, labels,
        [&](std::string_view text) -> absl::StatusOr<std::vector<float>> {
          ASSIGN_OR_RETURN(engine::Embedding embedding, encoder->Embed(text));
          return std::move(embedding.values);
        });
  }
}

int Main(int argc, char** argv) {
  const absl::StatusOr<Options> options = Parse(argc, argv);
  if (!options.ok()) return 2;
  fmt::print("{}\n", MachineLine());
  absl::StatusOr<Clinc> clinc = LoadClinc(options->data, options->vectors);
  if (!clinc.ok()) {
    fmt::print("SKIPPED: {}\n", Message(clinc.status()));
    return clinc.status().code() == absl::StatusCode::kNotFound ? 0 : 1;
  }
  OwnEncoder own;
  if (!options->encoder.empty()) own = MakeOwnEncoder(options->encoder, 2);
  if (own.encoder != nullptr) {
    EmbedAll(*own.encoder, &*clinc);
  } else {
    fmt::print("own encoder: not used; the vectors are {}\n",
               clinc->has_vectors ? options->vectors
                                  : "none: the encoder tier "
                                    "is SKIPPED");
  }
  const auto wanted = [&](const char* part) {
    return options->only.empty() ||
           std::find(options->only.begin(), options->only.end(), part) !=
               options->only.end();
  };
  if (wanted("hot-add")) {
    HotAdd(*clinc, false, 20);
    HotAdd(*clinc, true, 20);
    HotAdd(*clinc, true, 100);
  }
  if (wanted("few")) {
    for (size_t count : {5, 20, 50}) FewShotRun(*clinc, count);
  }
  if (wanted("all")) AccuracyOnAll(*clinc);
  if (wanted("latency")) Latency(*clinc, own.encoder.get());
  return 0;
}

}  // namespace
}  // namespace conclave::bench

int main(int argc, char** argv) { return conclave::bench::Main(argc, argv); }
