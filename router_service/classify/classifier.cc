#include "router_service/classify/classifier.h"

#include <algorithm>

#include "base/check.h"

namespace conclave::router {
namespace {

// Margins of one category against the rest lie in about -1..1, familiarity in
// -1..3 (fast) and -2..6 (both): middles of what CLINC150's subsets show.
constexpr CalibrationPrior kFastPrior{
    .sharpness = 4, .familiarity = 0.6, .familiarity_scale = 0.25};
constexpr CalibrationPrior kBothPrior{
    .sharpness = 2, .familiarity = 1.6, .familiarity_scale = 0.4};

// Full training, and what a warm start needs beyond the folds it has seen.
constexpr int kEpochs = 10;
constexpr int kWarmEpochs = 4;

bool Learnable(const TrainingSet& set, std::span<const uint32_t> train,
               uint32_t label) {
  // Labels ascend, and so do the samples named by `train`.
  const auto found = std::lower_bound(
      train.begin(), train.end(), label,
      [&](uint32_t i, uint32_t wanted) { return set.labels[i] < wanted; });
  return found != train.end() && set.labels[*found] == label;
}

std::vector<uint32_t> All(const TrainingSet& set) {
  std::vector<uint32_t> all(set.texts.size());
  for (uint32_t i = 0; i < all.size(); ++i) all[i] = i;
  return all;
}

}  // namespace

std::shared_ptr<const Classifier::Fast> Classifier::TrainFast(
    const TrainingSet& set) {
  auto fast = std::make_shared<Fast>();
  const auto num_categories = static_cast<uint32_t>(set.categories.size());
  std::vector<NgramVector> vectors;
  vectors.reserve(set.texts.size());
  for (const std::string& text : set.texts) {
    vectors.push_back(ExtractNgrams(text));
  }

  const Folds folds = MakeFolds(set);
  // The judging fold's dual variables start the final training: one fold of
  // five then costs little more than none.
  std::vector<float> alpha;
  const bool warm = folds.num_judged == 1;
  for (uint32_t fold = 0; fold < folds.num_judged; ++fold) {
    const std::vector<uint32_t> train = SamplesOfFold(folds, fold, false);
    const std::vector<uint32_t> judge = SamplesOfFold(folds, fold, true);
    if (judge.empty()) continue;
    const NgramModel model =
        NgramModel::Fit(vectors, set.labels, train, num_categories, kEpochs,
                        warm ? &alpha : nullptr);
    for (uint32_t i : judge) {
      fast->judged.push_back(
          {.scores = model.Score(vectors[i]),
           .label = set.labels[i],
           .learnable = Learnable(set, train, set.labels[i])});
      fast->judged_sample.push_back(i);
    }
  }
  fast->calibration = Calibration::Fit(fast->judged, kFastPrior);
  fast->model =
      NgramModel::Fit(vectors, set.labels, All(set), num_categories,
                      warm ? kWarmEpochs : kEpochs, warm ? &alpha : nullptr);
  return fast;
}

std::shared_ptr<const Classifier> Classifier::Train(
    std::shared_ptr<const TrainingSet> set) {
  auto out = std::make_shared<Classifier>();
  out->counts_.assign(set->categories.size(), 0);
  for (uint32_t label : set->labels) ++out->counts_[label];
  out->fast_ = TrainFast(*set);
  out->set_ = std::move(set);
  return out;
}

std::shared_ptr<const Classifier> Classifier::WithEncoder(
    std::shared_ptr<const Classifier> fast,
    std::span<const std::vector<float>> vectors) {
  const TrainingSet& set = *fast->set_;
  CHECK(vectors.size() == set.texts.size(), "{} vectors of {} samples",
        vectors.size(), set.texts.size());
  if (vectors.empty()) return fast;
  auto encoder = std::make_shared<Encoder>();
  const auto num_categories = static_cast<uint32_t>(set.categories.size());

  const Folds folds = MakeFolds(set);
  std::vector<float> alpha;
  const bool warm = folds.num_judged == 1;
  std::vector<Judged> judged;
  size_t next = 0;  // the fast tier judged the same samples in this order
  for (uint32_t fold = 0; fold < folds.num_judged; ++fold) {
    const std::vector<uint32_t> train = SamplesOfFold(folds, fold, false);
    const std::vector<uint32_t> judge = SamplesOfFold(folds, fold, true);
    if (judge.empty()) continue;
    const EncoderModel model =
        train.empty()
            ? EncoderModel()
            : EncoderModel::Fit(vectors, set.labels, train, num_categories,
                                kEpochs, warm ? &alpha : nullptr);
    for (uint32_t i : judge) {
      const Judged& by_ngrams = fast->fast_->judged[next];
      CHECK(fast->fast_->judged_sample[next] == i);
      ++next;
      if (train.empty()) continue;
      judged.push_back(
          {.scores = model.Score(vectors[i], by_ngrams.scores.scores),
           .label = set.labels[i],
           .learnable = by_ngrams.learnable});
    }
  }
  encoder->calibration = Calibration::Fit(judged, kBothPrior);
  encoder->model =
      EncoderModel::Fit(vectors, set.labels, All(set), num_categories,
                        warm ? kWarmEpochs : kEpochs, warm ? &alpha : nullptr);

  auto out = std::make_shared<Classifier>(*fast);
  out->encoder_ = std::move(encoder);
  return out;
}

Reading Classifier::ReadFast(std::span<const TextPart> parts) const {
  TierScores sum;
  sum.scores.assign(categories().size(), 0.0f);
  double total_weight = 0;
  for (const TextPart& part : parts) total_weight += part.weight;
  for (const TextPart& part : parts) {
    const auto share = static_cast<float>(part.weight / total_weight);
    const TierScores one = fast_->model.Score(ExtractNgrams(part.text));
    for (size_t c = 0; c < sum.scores.size(); ++c) {
      sum.scores[c] += share * one.scores[c];
    }
    sum.familiarity += share * one.familiarity;
  }
  Reading reading;
  reading.tier = Tier::kNgram;
  reading.posterior = fast_->calibration.Posterior(sum.scores);
  const bool blind = parts.empty() || sum.scores.empty();
  reading.novelty = blind ? 1 : fast_->calibration.Novelty(sum.familiarity);
  reading.out_of_scope =
      blind ? 1 : fast_->calibration.OutOfScope(reading.novelty);
  reading.ngram_scores = std::move(sum.scores);
  return reading;
}

Reading Classifier::ReadBoth(const Reading& fast,
                             std::span<const float> vector) const {
  CHECK(has_encoder());
  const TierScores both = encoder_->model.Score(vector, fast.ngram_scores);
  Reading reading;
  reading.tier = Tier::kEncoder;
  reading.posterior = encoder_->calibration.Posterior(both.scores);
  reading.novelty = encoder_->calibration.Novelty(both.familiarity);
  reading.out_of_scope = encoder_->calibration.OutOfScope(reading.novelty);
  reading.ngram_scores = fast.ngram_scores;
  return reading;
}

uint32_t Classifier::encoder_dim() const {
  return encoder_ == nullptr ? 0 : encoder_->model.dim();
}

std::string Classifier::version() const {
  if (provisional_) return set_->version + "/ngram-provisional";
  return set_->version + (has_encoder() ? "/ngram+encoder" : "/ngram");
}

TierReport Classifier::report(Tier tier) const {
  const Calibration* calibration = nullptr;
  if (tier == Tier::kNgram) calibration = &fast_->calibration;
  if (tier == Tier::kEncoder && has_encoder()) {
    calibration = &encoder_->calibration;
  }
  if (calibration == nullptr) return {};
  return {.accuracy = calibration->accuracy(),
          .calibration_error = calibration->calibration_error(),
          .sharpness = calibration->sharpness(),
          .num_judged = calibration->num_judged()};
}

}  // namespace conclave::router
