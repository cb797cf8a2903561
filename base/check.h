// CHECK stops the process when our own logic is wrong, printing the values.
// It stays on in release: it is for mistakes of ours, never for input.
//
//   CHECK(page < num_pages_, "page {} of {}", page, num_pages_);
#ifndef CONCLAVE_BASE_CHECK_H_
#define CONCLAVE_BASE_CHECK_H_

#include <fmt/core.h>

#include <string>

namespace conclave::internal {
[[noreturn]] void CheckFailed(const char* file, int line, const char* expr,
                              const std::string& message);
}  // namespace conclave::internal

#define CHECK(condition, ...)                                     \
  do {                                                            \
    if (__builtin_expect(!(condition), 0)) {                      \
      ::conclave::internal::CheckFailed(                          \
          __FILE__, __LINE__, #condition,                         \
          ::std::string(__VA_OPT__(::fmt::format(__VA_ARGS__)))); \
    }                                                             \
  } while (false)

#endif  // CONCLAVE_BASE_CHECK_H_
