// Scores a classifier on texts it has not seen.
#ifndef CONCLAVE_BENCH_CLINC_BENCH_REPORT_H_
#define CONCLAVE_BENCH_CLINC_BENCH_REPORT_H_

#include <string>
#include <vector>

#include "bench/clinc_bench/clinc_data.h"
#include "router_service/classify/classifier.h"

namespace conclave::bench {

enum class Labels { kIntent, kDomain };
// How the encoder is used: never; always; only where the policy would, i.e.
// the fast reading is below `kSureEnough` or novel.
enum class Use { kFast, kBoth, kCascade };

struct Score {
  double accuracy = 0;            // in scope, best category, no rejection
  double accuracy_rejecting = 0;  // out-of-scope verdicts count as wrong
  double calibration_error = 0;
  double out_of_scope_recall = 0;
  // Recall of a threshold on novelty that loses 1 % (5 %) of in-scope texts.
  double recall_losing_1 = 0, recall_losing_5 = 0;
  double encoder_share = 0;  // of in-scope texts
};

Score Evaluate(const router::Classifier& classifier, const Clinc& clinc,
               Labels labels, Use use);

void Print(const std::string& name, const Score& score);

}  // namespace conclave::bench

#endif  // CONCLAVE_BENCH_CLINC_BENCH_REPORT_H_
