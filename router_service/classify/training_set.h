// What the classifier learns from: texts with a category each, in one order
// whatever order they came in.
#ifndef CONCLAVE_ROUTER_SERVICE_CLASSIFY_TRAINING_SET_H_
#define CONCLAVE_ROUTER_SERVICE_CLASSIFY_TRAINING_SET_H_

#include <cstdint>
#include <string>
#include <vector>

namespace conclave::router {

// Where requests go that nothing else fits.
inline constexpr char kGeneralCategory[] = "general";

struct LabelledText {
  std::string text;
  std::string category;
  friend auto operator<=>(const LabelledText&, const LabelledText&) = default;
};

struct TrainingSet {
  std::vector<std::string> categories;  // with samples; sorted, distinct
  std::vector<std::string> texts;       // sorted by category, then text
  std::vector<uint32_t> labels;         // [texts], into categories
  // Hash of all of it: equal sets, equal versions, whatever the order.
  std::string version;
};

// Drops empty texts, texts without a category and repeated pairs. One text
// under two categories stays: the posterior will say that it may be either.
TrainingSet MakeTrainingSet(std::vector<LabelledText> samples);

// Which samples judge the model and which train it meanwhile.
//   under 200 samples   10 folds: each sample is judged once
//   under 1,000          5 folds
//   more                 one fold of five: 200 judgements fit one temperature
// Samples of one category are dealt out in turn, so that every fold holds its
// share of each. [texts]; a sample whose fold is >= num_judged is never judged.
struct Folds {
  std::vector<uint32_t> of_sample;
  uint32_t num_folds = 0;
  uint32_t num_judged = 0;
};
Folds MakeFolds(const TrainingSet& set);

// Samples outside (judged = false) or inside (true) one fold.
std::vector<uint32_t> SamplesOfFold(const Folds& folds, uint32_t fold,
                                    bool judged);

}  // namespace conclave::router

#endif  // CONCLAVE_ROUTER_SERVICE_CLASSIFY_TRAINING_SET_H_
