#include "bench/clinc_bench/report.h"

#include <fmt/core.h>

#include <algorithm>

#include "router_service/classify/calibration.h"

namespace conclave::bench {
namespace {

using router::Classifier;
using router::Reading;

constexpr double kSureEnough = 0.9;  // policy: PolicyOptions::sure_enough
constexpr double kNovel = 0.8;       // policy: PolicyOptions::novel_enough

Reading Read(const Classifier& classifier, const ClincRow& row, Use use) {
  const router::TextPart part{.text = row.text, .weight = 1};
  Reading fast = classifier.ReadFast({&part, 1});
  if (use == Use::kFast) return fast;
  const double top =
      *std::max_element(fast.posterior.begin(), fast.posterior.end());
  if (use == Use::kCascade && top >= kSureEnough && fast.novelty < kNovel) {
    return fast;
  }
  return classifier.ReadBoth(fast, row.vector);
}

double RecallLosing(double share, std::vector<double> in_scope,
                    const std::vector<double>& out_of_scope) {
  std::sort(in_scope.begin(), in_scope.end());
  const double threshold = in_scope[static_cast<size_t>(
      (1 - share) * static_cast<double>(in_scope.size()))];
  const auto found =
      std::count_if(out_of_scope.begin(), out_of_scope.end(),
                    [&](double novelty) { return novelty > threshold; });
  return double(found) / double(out_of_scope.size());
}

}  // namespace

Score Evaluate(const Classifier& classifier, const Clinc& clinc, Labels labels,
               Use use) {
  Score score;
  router::CalibrationError error;
  std::vector<double> novel_in, novel_out;
  for (const ClincRow& row : clinc.val) {
    const Reading reading = Read(classifier, row, use);
    const auto top =
        std::max_element(reading.posterior.begin(), reading.posterior.end()) -
        reading.posterior.begin();
    const bool right = classifier.categories()[top] ==
                       (labels == Labels::kIntent ? row.intent : row.domain);
    const double confidence =
        reading.posterior[top] * (1 - reading.out_of_scope);
    score.accuracy += right;
    score.accuracy_rejecting += right && confidence > reading.out_of_scope;
    score.encoder_share += reading.tier == router::Tier::kEncoder;
    error.Add(reading.posterior[top], right);
    novel_in.push_back(reading.novelty);
  }
  for (const ClincRow& row : clinc.out_of_scope) {
    const Reading reading = Read(classifier, row, use);
    const double top =
        *std::max_element(reading.posterior.begin(), reading.posterior.end());
    score.out_of_scope_recall +=
        top * (1 - reading.out_of_scope) <= reading.out_of_scope;
    novel_out.push_back(reading.novelty);
  }
  const auto in_scope = static_cast<double>(clinc.val.size());
  score.accuracy /= in_scope;
  score.accuracy_rejecting /= in_scope;
  score.encoder_share /= in_scope;
  score.calibration_error = error.Value();
  score.out_of_scope_recall /= static_cast<double>(clinc.out_of_scope.size());
  score.recall_losing_1 = RecallLosing(0.01, novel_in, novel_out);
  score.recall_losing_5 = RecallLosing(0.05, novel_in, novel_out);
  return score;
}

void Print(const std::string& name, const Score& score) {
  fmt::print(
      "{:<34} accuracy {:5.2f} %  ECE {:5.2f} %  | rejecting: in-scope "
      "{:5.2f} %, out-of-scope recall {:5.1f} % | recall losing 1 % {:5.1f} %, "
      "5 % {:5.1f} % | encoder used {:3.0f} %\n",
      name, 100 * score.accuracy, 100 * score.calibration_error,
      100 * score.accuracy_rejecting, 100 * score.out_of_scope_recall,
      100 * score.recall_losing_1, 100 * score.recall_losing_5,
      100 * score.encoder_share);
  std::fflush(stdout);
}

}  // namespace conclave::bench
