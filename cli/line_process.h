// A program that answers lines: a request a line on its standard input, an
// answer a line on its standard output. Its standard error is ours.
#ifndef CONCLAVE_CLI_LINE_PROCESS_H_
#define CONCLAVE_CLI_LINE_PROCESS_H_

#include <memory>
#include <string>
#include <vector>

#include "base/status.h"

namespace conclave::cli {

class LineProcess {
 public:
  // command[0] is looked for on the PATH.
  //   NOT_FOUND  there is no such program
  static absl::StatusOr<std::unique_ptr<LineProcess>> Start(
      const std::vector<std::string>& command);
  // Closes its input and waits for its end.
  virtual ~LineProcess() = default;

  // Sends a line (without its end) and waits for one; an empty request sends
  // nothing.
  //   UNAVAILABLE  the program has ended
  virtual absl::StatusOr<std::string> Ask(const std::string& line) = 0;
};

}  // namespace conclave::cli

#endif  // CONCLAVE_CLI_LINE_PROCESS_H_
