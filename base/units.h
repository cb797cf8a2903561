// Sizes as people write them: "512M", "2GiB", "64%".
#ifndef CONCLAVE_BASE_UNITS_H_
#define CONCLAVE_BASE_UNITS_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "base/status.h"

namespace conclave {

inline constexpr int64_t kKiB = int64_t{1} << 10;
inline constexpr int64_t kMiB = int64_t{1} << 20;
inline constexpr int64_t kGiB = int64_t{1} << 30;

// Bytes from "1048576", "512K", "512M", "2G", "2GiB", or "64%" of `whole`
// (K, M, G are powers of 1024). INVALID_ARGUMENT for anything else.
absl::StatusOr<int64_t> ParseBytes(std::string_view text, int64_t whole);

// "97.2 MiB": three significant digits, for people.
std::string FormatBytes(int64_t bytes);

// Physical memory of this machine, or of the cgroup where that is less.
int64_t TotalMemoryBytes();

// Physical cores this process may run on; at least 1.
int PhysicalCores();

}  // namespace conclave

#endif  // CONCLAVE_BASE_UNITS_H_
