#include "base/units.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <fstream>
#include <set>
#include <string>

namespace conclave {

absl::StatusOr<int64_t> ParseBytes(std::string_view text, int64_t whole) {
  const auto bad = [&] {
    return InvalidArgument(
        "\"{}\" is not a size: write bytes (1073741824), a unit (512M, 2GiB) "
        "or a share (64%)",
        text);
  };
  double value = 0;
  const auto [end, error] =
      std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || !(value >= 0) || !std::isfinite(value)) {
    return bad();
  }
  std::string_view unit(end,
                        text.size() - static_cast<size_t>(end - text.data()));
  double scale = 1;
  if (unit == "%") {
    if (value > 100) return bad();
    scale = static_cast<double>(whole) / 100;
  } else if (!unit.empty() && unit != "B") {
    const size_t power = std::string_view("KMGT").find(
        static_cast<char>(unit[0] >= 'a' ? unit[0] - 32 : unit[0]));
    if (power == std::string_view::npos) return bad();
    if (unit.size() > 1 && unit.substr(1) != "iB" && unit.substr(1) != "B") {
      return bad();
    }
    scale = std::pow(1024.0, static_cast<double>(power + 1));
  }
  const double bytes = value * scale;
  if (bytes > 9e18) return bad();
  return static_cast<int64_t>(bytes);
}

std::string FormatBytes(int64_t bytes) {
  double value = static_cast<double>(bytes);
  const char* units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  size_t unit = 0;
  while (value >= 1024 && unit + 1 < std::size(units)) {
    value /= 1024;
    ++unit;
  }
  if (unit == 0) return fmt::format("{} B", bytes);
  return fmt::format("{:.{}f} {}", value,
                     value < 10    ? 2
                     : value < 100 ? 1
                                   : 0,
                     units[unit]);
}

int64_t TotalMemoryBytes() {
  int64_t total =
      static_cast<int64_t>(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGESIZE);
  for (const char* path : {"/sys/fs/cgroup/memory.max",
                           "/sys/fs/cgroup/memory/memory.limit_in_bytes"}) {
    std::ifstream file(path);
    int64_t limit = 0;
    if (file >> limit && limit > 0) total = std::min(total, limit);
  }
  return total;
}

int PhysicalCores() {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0) return 1;
  std::set<std::string> cores;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &allowed)) continue;
    std::ifstream file(fmt::format(
        "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list", cpu));
    std::string siblings;
    if (!(file >> siblings)) siblings = std::to_string(cpu);
    cores.insert(siblings);
  }
  return std::max(1, static_cast<int>(cores.size()));
}

}  // namespace conclave
