#include "base/rpc/status.h"

#include <string>
#include <string_view>

namespace conclave::rpc {
namespace {

constexpr std::string_view kEllipsis = "\u2026";

// The text, or its beginning with an ellipsis: whole characters.
std::string Fitting(std::string_view text) {
  if (text.size() <= kMaxErrorBytes) return std::string(text);
  size_t end = kMaxErrorBytes - kEllipsis.size();
  while (end > 0 && (text[end] & '\xc0') == '\x80') --end;
  return std::string(text.substr(0, end)).append(kEllipsis);
}

}  // namespace

grpc::Status ToGrpc(const absl::Status& status) {
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()),
                      Fitting(Message(status)));
}

absl::Status FromGrpc(const grpc::Status& status) {
  if (status.ok()) return absl::OkStatus();
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()),
                      status.error_message());
}

}  // namespace conclave::rpc
