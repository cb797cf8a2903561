#include "base/machine.h"

#include <fmt/core.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <thread>

namespace conclave {
namespace {

std::string Processor() {
  std::ifstream file("/proc/cpuinfo");
  std::string line;
  while (std::getline(file, line)) {
    const size_t colon = line.find(": ");
    if (line.starts_with("model name") && colon != std::string::npos) {
      return line.substr(colon + 2);
    }
  }
  return "unknown processor";
}

// The names of kernels' instruction sets, of which a test there makes sure.
const char* InstructionSet() {
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") ||
      !__builtin_cpu_supports("bmi2")) {
    return "scalar";
  }
  return __builtin_cpu_supports("avx512f") &&
                 __builtin_cpu_supports("avx512bw") &&
                 __builtin_cpu_supports("avx512dq") &&
                 __builtin_cpu_supports("avx512vl") &&
                 __builtin_cpu_supports("avx512vnni")
             ? "avx512"
             : "avx2";
}

std::string Commit() {
  std::string commit;
  FILE* pipe = popen("git describe --always --dirty 2>/dev/null", "r");
  if (pipe != nullptr) {
    char buffer[128];
    while (std::fgets(buffer, sizeof(buffer), pipe) != nullptr) {
      commit += buffer;
    }
    pclose(pipe);
  }
  while (!commit.empty() && commit.back() == '\n') commit.pop_back();
  return commit.empty() ? "unknown" : commit;
}

}  // namespace

std::string MachineLine() {
  double load = 0;
  if (getloadavg(&load, 1) != 1) load = -1;
  return fmt::format("{}, {}, {} cores, load {:.2f}, commit {}", Processor(),
                     InstructionSet(), std::thread::hardware_concurrency(),
                     load, Commit());
}

int64_t ProcessResidentBytes() {
  std::ifstream statm("/proc/self/statm");
  int64_t total = 0;
  int64_t resident = 0;
  statm >> total >> resident;
  return resident * sysconf(_SC_PAGESIZE);
}

}  // namespace conclave
