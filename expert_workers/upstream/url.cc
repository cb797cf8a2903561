#include "expert_workers/upstream/url.h"

#include <algorithm>
#include <charconv>
#include <string>

namespace conclave::upstream {
namespace {

constexpr size_t kMaxUrlBytes = 2048;
constexpr std::string_view kShape = "it must be http(s)://host[:port][/path]";

bool IsAlnum(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
         (c >= '0' && c <= '9');
}

bool IsHostName(std::string_view host) {
  return !host.empty() && host.size() <= 253 && host.front() != '-' &&
         host.front() != '.' && std::ranges::all_of(host, [](char c) {
           return IsAlnum(c) || c == '-' || c == '.' || c == '_';
         });
}

bool IsIpv6(std::string_view host) {
  return host.size() >= 2 && host.size() <= 45 && host.find(':') != host.npos &&
         std::ranges::all_of(host, [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') ||
                  (c >= 'A' && c <= 'F') || c == ':' || c == '.';
         });
}

bool IsPath(std::string_view path) {
  return path.find("..") == path.npos && std::ranges::all_of(path, [](char c) {
           return IsAlnum(c) ||
                  std::string_view("/-._~%:@!$&'()*+,;=").find(c) !=
                      std::string_view::npos;
         });
}

absl::StatusOr<uint16_t> ParsePort(std::string_view text) {
  uint32_t port = 0;
  const auto [end, error] =
      std::from_chars(text.data(), text.data() + text.size(), port);
  if (error != std::errc() || end != text.data() + text.size() || port == 0 ||
      port > 65535) {
    return InvalidArgument("the URL's port '{}' is not 1..65535", text);
  }
  return static_cast<uint16_t>(port);
}

}  // namespace

std::string Url::Authority() const {
  const std::string name =
      host.find(':') == host.npos ? host : "[" + host + "]";
  const bool is_default = port == (tls ? 443 : 80);
  return is_default ? name : fmt::format("{}:{}", name, port);
}

absl::StatusOr<Url> ParseUrl(std::string_view text) {
  if (text.size() > kMaxUrlBytes) {
    return InvalidArgument("the URL has {} bytes; at most {} are allowed",
                           text.size(), kMaxUrlBytes);
  }
  Url url;
  std::string_view rest = text;
  if (rest.starts_with("https://")) {
    url.tls = true;
    rest.remove_prefix(8);
  } else if (rest.starts_with("http://")) {
    rest.remove_prefix(7);
  } else {
    return InvalidArgument("'{}' is no URL: {}", text, kShape);
  }
  const size_t slash = rest.find('/');
  std::string_view authority = rest.substr(0, slash);
  std::string_view path = slash == rest.npos ? "" : rest.substr(slash);

  std::string_view host = authority;
  std::string_view port;
  if (authority.starts_with('[')) {
    const size_t end = authority.find(']');
    if (end == authority.npos || !IsIpv6(authority.substr(1, end - 1))) {
      return InvalidArgument("the URL's IPv6 host is malformed: {}", kShape);
    }
    host = authority.substr(1, end - 1);
    port = authority.substr(end + 1);
  } else {
    const size_t colon = authority.find(':');
    host = authority.substr(0, colon);
    port = colon == authority.npos ? "" : authority.substr(colon);
    if (!IsHostName(host)) {
      return InvalidArgument("'{}' is no host name: {}", host, kShape);
    }
  }
  url.port = url.tls ? 443 : 80;
  if (!port.empty()) {
    if (port.front() != ':') {
      return InvalidArgument("'{}' is no URL: {}", text, kShape);
    }
    ASSIGN_OR_RETURN(url.port, ParsePort(port.substr(1)));
  }
  if (!IsPath(path)) {
    return InvalidArgument(
        "the URL's path '{}' may hold no query, no fragment and no '..'", path);
  }
  while (path.ends_with('/')) path.remove_suffix(1);
  url.path = path;
  url.host = host;
  std::ranges::transform(url.host, url.host.begin(), [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  });
  return url;
}

}  // namespace conclave::upstream
