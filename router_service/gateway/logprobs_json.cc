#include "router_service/gateway/logprobs_json.h"

#include <fmt/core.h>

#include <cmath>

namespace conclave::gateway {
namespace {

using nlohmann::ordered_json;

// JSON has no infinity; vLLM writes impossible tokens as this.
constexpr double kImpossible = -9999.0;

double Finite(float logprob) {
  return std::isfinite(logprob) ? static_cast<double>(logprob) : kImpossible;
}

ordered_json Entry(const v1::TokenLogprob& token) {
  ordered_json entry;
  entry["token"] = TokenText(token.text());
  entry["logprob"] = Finite(token.logprob());
  ordered_json bytes = ordered_json::array();
  for (char c : token.text()) bytes.push_back(static_cast<unsigned char>(c));
  entry["bytes"] = std::move(bytes);
  return entry;
}

int64_t Characters(std::string_view text) {
  int64_t count = 0;
  for (char c : text) count += (static_cast<unsigned char>(c) & 0xc0) != 0x80;
  return count;
}

ordered_json Empty() {
  ordered_json value;
  for (const char* name :
       {"tokens", "token_logprobs", "top_logprobs", "text_offset"}) {
    value[name] = ordered_json::array();
  }
  return value;
}

}  // namespace

bool IsUtf8(std::string_view bytes) {
  for (size_t i = 0; i < bytes.size();) {
    const auto lead = static_cast<unsigned char>(bytes[i]);
    size_t length = 0;
    uint32_t point = 0;
    if (lead < 0x80) {
      length = 1, point = lead;
    } else if ((lead & 0xe0) == 0xc0) {
      length = 2, point = lead & 0x1fu;
    } else if ((lead & 0xf0) == 0xe0) {
      length = 3, point = lead & 0x0fu;
    } else if ((lead & 0xf8) == 0xf0) {
      length = 4, point = lead & 0x07u;
    } else {
      return false;
    }
    if (i + length > bytes.size()) return false;
    for (size_t k = 1; k < length; ++k) {
      const auto next = static_cast<unsigned char>(bytes[i + k]);
      if ((next & 0xc0) != 0x80) return false;
      point = point << 6 | (next & 0x3fu);
    }
    constexpr uint32_t kLeast[] = {0, 0, 0x80, 0x800, 0x10000};
    if (point < kLeast[length] || point > 0x10ffff ||
        (point >= 0xd800 && point <= 0xdfff)) {
      return false;
    }
    i += length;
  }
  return true;
}

std::string TokenText(std::string_view bytes) {
  if (IsUtf8(bytes)) return std::string(bytes);
  std::string text = "bytes:";
  for (char c : bytes) {
    text += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
  }
  return text;
}

void AppendChatLogprobs(const TokenLogprobs& tokens, int top_n,
                        ordered_json& content) {
  for (const v1::TokenLogprob& token : tokens) {
    ordered_json entry = Entry(token);
    ordered_json top = ordered_json::array();
    for (int i = 0; i < token.top_size() && i < top_n; ++i) {
      top.push_back(Entry(token.top(i)));
    }
    entry["top_logprobs"] = std::move(top);
    content.push_back(std::move(entry));
  }
}

CompletionLogprobs::CompletionLogprobs() : value_(Empty()) {}

void CompletionLogprobs::Append(const TokenLogprobs& tokens, int top_n,
                                bool first_unknown) {
  for (int t = 0; t < tokens.size(); ++t) {
    const v1::TokenLogprob& token = tokens[t];
    const std::string text = TokenText(token.text());
    value_["tokens"].push_back(text);
    value_["text_offset"].push_back(offset_);
    offset_ += Characters(token.text());
    if (first_unknown && t == 0) {
      value_["token_logprobs"].push_back(nullptr);
      value_["top_logprobs"].push_back(nullptr);
      continue;
    }
    value_["token_logprobs"].push_back(Finite(token.logprob()));
    ordered_json top = ordered_json::object();
    for (int i = 0; i < token.top_size() && i < top_n; ++i) {
      top.emplace(TokenText(token.top(i).text()),
                  Finite(token.top(i).logprob()));
    }
    top[text] = Finite(token.logprob());
    value_["top_logprobs"].push_back(std::move(top));
  }
}

ordered_json CompletionLogprobs::Take() {
  ordered_json taken = std::move(value_);
  value_ = Empty();
  return taken;
}

}  // namespace conclave::gateway
