// A decision in words: for `conclave route` and the line above an answer.
#ifndef CONCLAVE_CLI_DECISION_TEXT_H_
#define CONCLAVE_CLI_DECISION_TEXT_H_

#include <string>

#include "conclave/v1/common.pb.h"

namespace conclave::cli {

// Several lines: expert, category, why, candidates.
std::string DecisionText(const v1::Decision& decision);
// One line: "coder <- code (97 % sure): why".
std::string DecisionLine(const v1::Decision& decision);

}  // namespace conclave::cli

#endif  // CONCLAVE_CLI_DECISION_TEXT_H_
