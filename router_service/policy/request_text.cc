#include "router_service/policy/request_text.h"

#include <algorithm>

namespace conclave::router {
namespace {

constexpr double kPreviousWeight = 0.5;
constexpr double kSystemWeight = 0.2;
constexpr int kEnoughWords = 16;

bool IsSpace(char c) { return static_cast<unsigned char>(c) <= ' '; }

bool HasText(std::string_view text) {
  return !std::all_of(text.begin(), text.end(), IsSpace);
}

// Words up to kEnoughWords; separated by white space.
int CountWords(std::string_view text) {
  int words = 0;
  bool in_word = false;
  for (char c : text) {
    if (words == kEnoughWords) break;
    words += !IsSpace(c) && !in_word;
    in_word = !IsSpace(c);
  }
  return words;
}

bool IsContinuation(char c) {
  return (static_cast<unsigned char>(c) & 0xc0) == 0x80;
}

}  // namespace

std::vector<TextPart> PartsOfChat(const v1::ChatPrompt& chat) {
  std::vector<TextPart> parts;
  int last = chat.messages_size() - 1;
  const auto is_user_text = [&](int i) {
    return chat.messages(i).role() == "user" &&
           HasText(chat.messages(i).content());
  };
  while (last >= 0 && !is_user_text(last)) --last;
  if (last < 0) {
    for (int i = chat.messages_size() - 1; i >= 0 && parts.empty(); --i) {
      parts = PartsOfText(chat.messages(i).content());
    }
    return parts;
  }
  const std::string& question = chat.messages(last).content();
  parts.push_back({.text = question, .weight = 1});
  const double scale =
      std::max(0.0, 1 - double(CountWords(question)) / kEnoughWords);
  if (scale == 0) return parts;
  for (int i = last - 1; i >= 0; --i) {
    if (!is_user_text(i)) continue;
    parts.push_back({.text = chat.messages(i).content(),
                     .weight = kPreviousWeight * scale});
    break;
  }
  for (int i = 0; i < last && chat.messages(i).role() == "system"; ++i) {
    if (!HasText(chat.messages(i).content())) continue;
    parts.push_back(
        {.text = chat.messages(i).content(), .weight = kSystemWeight * scale});
  }
  return parts;
}

std::vector<TextPart> PartsOfText(std::string_view text) {
  if (!HasText(text)) return {};
  return {{.text = text, .weight = 1}};
}

std::string EndsOfText(std::string_view text, size_t max_bytes) {
  if (text.size() <= max_bytes) return std::string(text);
  size_t head = max_bytes / 2;
  size_t tail = text.size() - max_bytes / 2;
  // At most three steps each in valid UTF-8; hostile bytes get no more either.
  for (int i = 0; i < 3 && head > 0 && IsContinuation(text[head]); ++i) --head;
  for (int i = 0; i < 3 && tail < text.size() && IsContinuation(text[tail]);
       ++i) {
    ++tail;
  }
  return std::string(text.substr(0, head)) + " ... " +
         std::string(text.substr(tail));
}

}  // namespace conclave::router
