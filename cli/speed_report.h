// What `conclave bench engine` has measured, and how it is said.
#ifndef CONCLAVE_CLI_SPEED_REPORT_H_
#define CONCLAVE_CLI_SPEED_REPORT_H_

#include <cstdint>
#include <string>
#include <vector>

namespace conclave::cli {

// Tokens per second, a value a round; `peer` is llama.cpp's, empty without it.
struct Speeds {
  std::vector<double> ours;
  std::vector<double> peer;
};

struct ModelSpeed {
  std::string name;
  int64_t token_bytes = 0;  // of weights that one token reads
  int64_t token_ops = 0;    // operations with them, two a weight
  // Why llama.cpp was not measured; empty: it was.
  std::string no_peer = {};
  Speeds prompt = {}, one = {}, streams = {};
};

// What the machine did in the same run.
struct SpeedLimits {
  std::string isa;
  double read_bytes_per_second = 0;
  double int8_ops_per_second = 0;  // 0: unknown
};

struct SpeedReport {
  std::string machine;  // MachineLine()
  int threads = 0;
  int64_t prompt = 0;
  int64_t generate = 0;
  int64_t streams = 0;
  int64_t stream_prompt = 0;
  int rounds = 0;
  SpeedLimits limits;
  std::string peer_version;  // llama-cpp-python's; empty without it
  std::vector<ModelSpeed> models;
};

// For people: at most 100 columns.
std::string SpeedText(const SpeedReport& report);
// One line, every value measured.
std::string SpeedJson(const SpeedReport& report);

}  // namespace conclave::cli

#endif  // CONCLAVE_CLI_SPEED_REPORT_H_
