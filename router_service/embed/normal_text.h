// Text as the n-gram features see it: case-folded, white space and control
// characters collapsed to one space, invalid UTF-8 replaced by U+FFFD. Pure.
#ifndef CONCLAVE_ROUTER_SERVICE_EMBED_NORMAL_TEXT_H_
#define CONCLAVE_ROUTER_SERVICE_EMBED_NORMAL_TEXT_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace conclave::router {

// `bytes` is valid UTF-8 with one space at either end (so that a word's
// beginning and end are features); empty when the text has nothing visible.
// Character i is bytes[starts[i] .. starts[i + 1]); starts ends with
// bytes.size().
// `word_spans` are [first byte, end byte) of words: runs of letters, digits,
// marks and '_'; an ideograph or kana is a word by itself, because those
// scripts write no spaces.
struct NormalText {
  struct Span {
    uint32_t begin = 0;
    uint32_t end = 0;
  };
  std::string bytes;
  std::vector<uint32_t> starts;
  std::vector<Span> word_spans;
};

NormalText Normalize(std::string_view text);

}  // namespace conclave::router

#endif  // CONCLAVE_ROUTER_SERVICE_EMBED_NORMAL_TEXT_H_
