// The classifier as requests see it: immutable, trained from one training set,
// fast tier always, encoder tier once the samples' vectors are there.
//
// Threads: all const methods may run concurrently.
#ifndef CONCLAVE_ROUTER_SERVICE_CLASSIFY_CLASSIFIER_H_
#define CONCLAVE_ROUTER_SERVICE_CLASSIFY_CLASSIFIER_H_

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "router_service/classify/calibration.h"
#include "router_service/classify/encoder_model.h"
#include "router_service/classify/ngram_model.h"
#include "router_service/classify/training_set.h"

namespace conclave::router {

// A piece of what is asked, e.g. the last user message, with its say.
struct TextPart {
  std::string_view text;
  double weight = 1;  // > 0
};

enum class Tier : uint8_t { kNgram, kEncoder };

// What the classifier makes of a request.
struct Reading {
  Tier tier = Tier::kNgram;
  // [categories()]; the probability of each given that it is one of them.
  std::vector<double> posterior;
  double novelty = 0;       // 0..1, see calibration.h
  double out_of_scope = 0;  // probability that it is none of them
  std::vector<float> ngram_scores;
};

// Held-out quality of a tier, for people and metrics.
struct TierReport {
  double accuracy = 0;
  double calibration_error = 0;
  double sharpness = 0;
  size_t num_judged = 0;
};

class Classifier {
 public:
  // The fast tier. `set` may be empty: every reading is novel then.
  static std::shared_ptr<const Classifier> Train(
      std::shared_ptr<const TrainingSet> set);
  // A provisional classifier for `set`, in tens of milliseconds however large
  // the set is: categories without new samples keep the margins of `previous`,
  // new and changed ones are trained against kExtendOthers samples of the
  // others. Fast tier only, calibrated as `previous` was. Null when there is
  // nothing to build on.
  static std::shared_ptr<const Classifier> Extend(
      const Classifier& previous, std::shared_ptr<const TrainingSet> set);
  static constexpr size_t kExtendOthers = 2000;
  // The same with the encoder tier; vectors[i] belongs to sample i, unit
  // length, one size. Nothing of the fast tier is trained again.
  static std::shared_ptr<const Classifier> WithEncoder(
      std::shared_ptr<const Classifier> fast,
      std::span<const std::vector<float>> vectors);

  // The parts' scores are averaged by weight. No parts or no samples: novelty
  // 1.
  Reading ReadFast(std::span<const TextPart> parts) const;
  // `vector`: of the same parts, unit length. Requires has_encoder().
  Reading ReadBoth(const Reading& fast, std::span<const float> vector) const;

  const std::vector<std::string>& categories() const {
    return set_->categories;
  }
  const TrainingSet& training_set() const { return *set_; }
  // Samples of categories()[c].
  uint32_t num_samples(uint32_t c) const { return counts_[c]; }
  bool has_encoder() const { return encoder_ != nullptr; }
  // 0 before has_encoder().
  uint32_t encoder_dim() const;
  bool provisional() const { return provisional_; }
  // Training set and tiers: "3f…/ngram", "3f…/ngram+encoder", and
  // "3f…/ngram-provisional" of Extend.
  std::string version() const;
  TierReport report(Tier tier) const;

 private:
  struct Fast {
    NgramModel model;
    Calibration calibration;
    std::vector<Judged> judged;  // of Folds, in the order judged
    std::vector<uint32_t> judged_sample;
  };
  struct Encoder {
    EncoderModel model;
    Calibration calibration;
  };
  static std::shared_ptr<const Fast> TrainFast(const TrainingSet& set);

  std::shared_ptr<const TrainingSet> set_;
  std::vector<uint32_t> counts_;
  std::shared_ptr<const Fast> fast_;
  std::shared_ptr<const Encoder> encoder_;  // may be null
  bool provisional_ = false;
};

}  // namespace conclave::router

#endif  // CONCLAVE_ROUTER_SERVICE_CLASSIFY_CLASSIFIER_H_
