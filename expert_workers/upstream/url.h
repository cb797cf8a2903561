// The one kind of URL an endpoint may have:
//   http(s)://host[:port][/path]
// without user, query or fragment; host is a name, an IPv4 address or an IPv6
// address in brackets.
#ifndef CONCLAVE_EXPERT_WORKERS_UPSTREAM_URL_H_
#define CONCLAVE_EXPERT_WORKERS_UPSTREAM_URL_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "base/status.h"

namespace conclave::upstream {

struct Url {
  bool tls = false;
  std::string host;  // lower case; an IPv6 address without its brackets
  uint16_t port = 0;
  std::string path;  // "" or "/v1": never ends in '/'

  // As the Host header has it: brackets for IPv6, no default port.
  std::string Authority() const;
};

// INVALID_ARGUMENT naming what is wrong.
absl::StatusOr<Url> ParseUrl(std::string_view text);

}  // namespace conclave::upstream

#endif  // CONCLAVE_EXPERT_WORKERS_UPSTREAM_URL_H_
