// CLINC150 as the bench needs it (Larson et al., EMNLP 2019; CC-BY-3.0).
#ifndef CONCLAVE_BENCH_CLINC_BENCH_CLINC_DATA_H_
#define CONCLAVE_BENCH_CLINC_BENCH_CLINC_DATA_H_

#include <map>
#include <string>
#include <vector>

#include "base/status.h"

namespace conclave::bench {

struct ClincRow {
  std::string text;
  std::string intent;         // "oos": out of scope
  std::string domain;         // "oos": out of scope
  std::vector<float> vector;  // unit sentence vector; empty: none given
};

struct Clinc {
  std::vector<ClincRow> train, val, out_of_scope;
  bool has_vectors = false;
};

// Reads clinc150_train_val.json.gz and clinc150_domains.json from `folder`, and
// the vectors from `vectors_path` where that file exists. NOT_FOUND when the
// data is not there.
absl::StatusOr<Clinc> LoadClinc(const std::string& folder,
                                const std::string& vectors_path);

}  // namespace conclave::bench

#endif  // CONCLAVE_BENCH_CLINC_BENCH_CLINC_DATA_H_
