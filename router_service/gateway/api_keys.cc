#include "router_service/gateway/api_keys.h"

#include <absl/strings/escaping.h>
#include <fmt/format.h>
#include <openssl/crypto.h>
#include <openssl/rand.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <sstream>

#include "base/hash.h"
#include "base/names.h"

namespace conclave::gateway {
namespace {

constexpr uint8_t kAllScopes = 7;
constexpr std::string_view kPrefix = "sha256:";

absl::StatusOr<uint8_t> ParseScopes(const std::string& text, int line) {
  if (text.empty()) return kAllScopes;
  uint8_t scopes = 0;
  std::stringstream parts(text);
  for (std::string part; std::getline(parts, part, ',');) {
    if (part == "inference") {
      scopes |= static_cast<uint8_t>(Scope::kInference);
    } else if (part == "feedback") {
      scopes |= static_cast<uint8_t>(Scope::kFeedback);
    } else if (part == "metrics") {
      scopes |= static_cast<uint8_t>(Scope::kMetrics);
    } else {
      return InvalidArgument(
          "API keys, line {}: unknown scope \"{}\"; known are inference, "
          "feedback, metrics",
          line, part.substr(0, 32));
    }
  }
  return scopes;
}

bool IsDigest(std::string_view text) {
  return text.size() == 64 && std::all_of(text.begin(), text.end(), [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
         });
}

}  // namespace

absl::StatusOr<ApiKeys> ApiKeys::Parse(std::string_view text) {
  ApiKeys keys;
  std::stringstream lines{std::string(text)};
  int number = 0;
  for (std::string line; std::getline(lines, line);) {
    ++number;
    line.resize(std::min(line.size(), line.find('#')));
    std::stringstream words(line);
    std::string digest;
    Entry entry;
    std::string scopes;
    std::string rest;
    if (!(words >> digest)) continue;
    words >> entry.name >> scopes;
    if (!digest.starts_with(kPrefix) ||
        !IsDigest(std::string_view(digest).substr(kPrefix.size()))) {
      return InvalidArgument(
          "API keys, line {}: it must start with \"sha256:\" and 64 lower-case "
          "hexadecimal digits (keys are stored hashed)",
          number);
    }
    entry.digest = digest.substr(kPrefix.size());
    RETURN_IF_ERROR(Annotate(CheckName("key", entry.name),
                             fmt::format("API keys, line {}", number)));
    ASSIGN_OR_RETURN(entry.scopes, ParseScopes(scopes, number));
    if (words >> rest) {
      return InvalidArgument("API keys, line {}: too many words", number);
    }
    keys.entries_.push_back(std::move(entry));
  }
  if (keys.entries_.empty()) {
    return InvalidArgument("the API key file holds no key");
  }
  return keys;
}

absl::StatusOr<ApiKeys> ApiKeys::Load(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return NotFound("cannot read the API key file \"{}\"", path);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  return Parse(text);
}

absl::StatusOr<std::string> ApiKeys::Check(std::string_view authorization,
                                           Scope scope) const {
  constexpr std::string_view kBearer = "bearer ";
  const bool bearer =
      authorization.size() > kBearer.size() &&
      std::equal(kBearer.begin(), kBearer.end(), authorization.begin(),
                 [](char a, char b) { return a == (b | 0x20); });
  if (!bearer) {
    return Unauthenticated(
        "an API key is needed: send the header \"authorization: Bearer KEY\"");
  }
  const std::string digest = Sha256Hex(authorization.substr(kBearer.size()));
  const Entry* found = nullptr;
  for (const Entry& entry : entries_) {
    // All of them, each in constant time: how long this takes says nothing.
    if (CRYPTO_memcmp(entry.digest.data(), digest.data(), digest.size()) == 0) {
      found = &entry;
    }
  }
  if (found == nullptr) return Unauthenticated("the API key is not known");
  if ((found->scopes & static_cast<uint8_t>(scope)) == 0) {
    return PermissionDenied("the API key \"{}\" may not do this", found->name);
  }
  return found->name;
}

absl::StatusOr<std::string> MakeKey() {
  unsigned char bytes[32];
  if (RAND_bytes(bytes, sizeof(bytes)) != 1) {
    return Unavailable("the system gives no random bytes");
  }
  const std::string raw(reinterpret_cast<const char*>(bytes), sizeof(bytes));
  return "ck-" + absl::WebSafeBase64Escape(raw);
}

std::string KeyLine(std::string_view key, std::string_view name) {
  return fmt::format("sha256:{} {}", Sha256Hex(key), name);
}

}  // namespace conclave::gateway
