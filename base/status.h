// Errors are absl::Status inside Conclave. This header adds what Debian's
// abseil (20220623) lacks: the two macros, and constructors that format.
// The constructors take std::string_view arguments, which that abseil's own
// cannot (its string_view is another type).
//
//   return InvalidArgument("top_k is {}; it must be 1..{}", k, limit);
//
// Whose fault          code
//   the caller's       INVALID_ARGUMENT, NOT_FOUND, ALREADY_EXISTS,
//                      FAILED_PRECONDITION, PERMISSION_DENIED
//   load or time       RESOURCE_EXHAUSTED, UNAVAILABLE, DEADLINE_EXCEEDED
//   disk or wire       DATA_LOSS, UNAVAILABLE
//   ours               CHECK (base/check.h)
#ifndef CONCLAVE_BASE_STATUS_H_
#define CONCLAVE_BASE_STATUS_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <fmt/core.h>

#include <string>
#include <string_view>
#include <utility>

namespace conclave {

template <typename... Args>
absl::Status MakeStatus(absl::StatusCode code,
                        fmt::format_string<Args...> format, Args&&... args) {
  return absl::Status(code, fmt::format(format, std::forward<Args>(args)...));
}

#define CONCLAVE_DEFINE_ERROR(Name, code)                                 \
  template <typename... Args>                                             \
  absl::Status Name(fmt::format_string<Args...> format, Args&&... args) { \
    return MakeStatus(code, format, std::forward<Args>(args)...);         \
  }
CONCLAVE_DEFINE_ERROR(InvalidArgument, absl::StatusCode::kInvalidArgument)
CONCLAVE_DEFINE_ERROR(NotFound, absl::StatusCode::kNotFound)
CONCLAVE_DEFINE_ERROR(AlreadyExists, absl::StatusCode::kAlreadyExists)
CONCLAVE_DEFINE_ERROR(FailedPrecondition, absl::StatusCode::kFailedPrecondition)
CONCLAVE_DEFINE_ERROR(OutOfRange, absl::StatusCode::kOutOfRange)
CONCLAVE_DEFINE_ERROR(Unimplemented, absl::StatusCode::kUnimplemented)
CONCLAVE_DEFINE_ERROR(ResourceExhausted, absl::StatusCode::kResourceExhausted)
CONCLAVE_DEFINE_ERROR(Unavailable, absl::StatusCode::kUnavailable)
CONCLAVE_DEFINE_ERROR(DeadlineExceeded, absl::StatusCode::kDeadlineExceeded)
CONCLAVE_DEFINE_ERROR(DataLoss, absl::StatusCode::kDataLoss)
CONCLAVE_DEFINE_ERROR(Internal, absl::StatusCode::kInternal)
CONCLAVE_DEFINE_ERROR(Aborted, absl::StatusCode::kAborted)
CONCLAVE_DEFINE_ERROR(Cancelled, absl::StatusCode::kCancelled)
CONCLAVE_DEFINE_ERROR(PermissionDenied, absl::StatusCode::kPermissionDenied)
CONCLAVE_DEFINE_ERROR(Unauthenticated, absl::StatusCode::kUnauthenticated)
#undef CONCLAVE_DEFINE_ERROR

// Abseil's message as a std::string_view.
inline std::string_view Message(const absl::Status& status) {
  return std::string_view(status.message().data(), status.message().size());
}

// The same code, with "context: " before the message. OK stays OK.
absl::Status Annotate(const absl::Status& status, std::string_view context);

// "NOT_FOUND" and so on: the stable name of a code.
std::string_view CodeName(absl::StatusCode code);

namespace internal {
inline const absl::Status& GetStatus(const absl::Status& status) {
  return status;
}
template <typename T>
const absl::Status& GetStatus(const absl::StatusOr<T>& status_or) {
  return status_or.status();
}
}  // namespace internal

}  // namespace conclave

#define CONCLAVE_CONCAT_(a, b) a##b
#define CONCLAVE_CONCAT(a, b) CONCLAVE_CONCAT_(a, b)

// Leaves the enclosing function with the error, if `expr` is one.
#define RETURN_IF_ERROR(expr)                                   \
  do {                                                          \
    const auto& conclave_status_ = (expr);                      \
    if (!conclave_status_.ok())                                 \
      return ::conclave::internal::GetStatus(conclave_status_); \
  } while (false)

// ASSIGN_OR_RETURN(auto x, F()): x is F's value, or the function returns F's
// error.
#define ASSIGN_OR_RETURN(lhs, expr) \
  ASSIGN_OR_RETURN_IMPL_(CONCLAVE_CONCAT(status_or_, __LINE__), lhs, expr)
#define ASSIGN_OR_RETURN_IMPL_(tmp, lhs, expr) \
  auto tmp = (expr);                           \
  if (!tmp.ok()) return tmp.status();          \
  lhs = std::move(tmp).value()

#endif  // CONCLAVE_BASE_STATUS_H_
