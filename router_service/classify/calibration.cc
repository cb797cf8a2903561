#include "router_service/classify/calibration.h"

#include <algorithm>
#include <cmath>

namespace conclave::router {
namespace {

constexpr double kPriorWeight = 4;
constexpr double kOutOfScopePrior = 0.1;

// -ln softmax(a * scores)[label].
double Loss(std::span<const float> scores, uint32_t label, double a) {
  const float best = *std::max_element(scores.begin(), scores.end());
  double sum = 0;
  for (float score : scores) sum += std::exp(a * (score - best));
  return std::log(sum) - a * (scores[label] - best);
}

// The minimum of a unimodal function, by golden section.
template <typename F>
double Minimise(double low, double high, const F& f) {
  constexpr double kRatio = 0.6180339887498949;
  double a = high - kRatio * (high - low), b = low + kRatio * (high - low);
  double fa = f(a), fb = f(b);
  for (int i = 0; i < 30; ++i) {  // 1e-6 of the interval
    if (fa <= fb) {
      high = b;
      b = a;
      fb = fa;
      a = high - kRatio * (high - low);
      fa = f(a);
    } else {
      low = a;
      a = b;
      fa = fb;
      b = low + kRatio * (high - low);
      fb = f(b);
    }
  }
  return (low + high) / 2;
}

}  // namespace

Calibration Calibration::Fit(std::span<const Judged> judged,
                             const CalibrationPrior& prior) {
  Calibration out(prior);
  std::vector<const Judged*> learnable;
  for (const Judged& one : judged) {
    // A sample alone in its category counts as held out all the same: nothing
    // registered is like it.
    out.familiarities_.push_back(one.scores.familiarity);
    if (one.learnable && one.scores.scores.size() > 1) {
      learnable.push_back(&one);
    }
  }
  std::sort(out.familiarities_.begin(), out.familiarities_.end());

  const double log_prior = std::log(prior.sharpness);
  const double best =
      Minimise(log_prior - 4, log_prior + 3, [&](double log_sharpness) {
        const double distance = log_sharpness - log_prior;
        double loss = kPriorWeight * distance * distance;
        for (const Judged* one : learnable) {
          loss += Loss(one->scores.scores, one->label, std::exp(log_sharpness));
        }
        return loss;
      });
  out.sharpness_ = learnable.empty() ? prior.sharpness : std::exp(best);

  CalibrationError error;
  size_t right = 0;
  for (const Judged* one : learnable) {
    const std::vector<double> p = out.Posterior(one->scores.scores);
    const auto top = std::max_element(p.begin(), p.end()) - p.begin();
    const bool is_right = static_cast<uint32_t>(top) == one->label;
    right += is_right;
    error.Add(p[top], is_right);
  }
  if (!learnable.empty()) {
    out.accuracy_ = double(right) / double(learnable.size());
  }
  out.calibration_error_ = error.Value();
  return out;
}

std::vector<double> Calibration::Posterior(
    std::span<const float> scores) const {
  std::vector<double> p(scores.size());
  if (p.empty()) return p;
  const float best = *std::max_element(scores.begin(), scores.end());
  double sum = 0;
  for (size_t c = 0; c < p.size(); ++c) {
    p[c] = std::exp(sharpness_ * (scores[c] - best));
    sum += p[c];
  }
  for (double& value : p) value /= sum;
  return p;
}

double Calibration::Novelty(double familiarity) const {
  const double prior = 1 / (1 + std::exp((familiarity - prior_.familiarity) /
                                         prior_.familiarity_scale));
  const auto above = std::upper_bound(familiarities_.begin(),
                                      familiarities_.end(), familiarity);
  const auto more_familiar = static_cast<double>(familiarities_.end() - above);
  return (more_familiar + kPriorWeight * prior) /
         (static_cast<double>(familiarities_.size()) + kPriorWeight);
}

double Calibration::OutOfScope(double novelty) const {
  const double k = std::clamp(double(familiarities_.size()), 20.0, 100.0);
  const double density = k * std::pow(std::clamp(novelty, 0.0, 1.0), k - 1);
  return kOutOfScopePrior * density /
         (kOutOfScopePrior * density + 1 - kOutOfScopePrior);
}

void CalibrationError::Add(double confidence, bool right) {
  Bin& bin = bins_[std::clamp(static_cast<int>(confidence * 10), 0, 9)];
  bin.confidence += confidence;
  bin.right += right;
  bin.count += 1;
}

double CalibrationError::Value() const {
  double total = 0, gap = 0;
  for (const Bin& bin : bins_) {
    total += bin.count;
    gap += std::abs(bin.confidence - bin.right);
  }
  return total > 0 ? gap / total : 0;
}

}  // namespace conclave::router
