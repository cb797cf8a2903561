#include "cli/terminal.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "base/clock.h"
#include "base/units.h"

namespace conclave::cli {
namespace {

std::string Wrap(std::string_view text, Style style, bool is_terminal) {
  if (!is_terminal) return std::string(text);
  const char* code = "0";
  switch (style) {
    case Style::kBold:
      code = "1";
      break;
    case Style::kDim:
      code = "2";
      break;
    case Style::kRed:
      code = "31";
      break;
    case Style::kGreen:
      code = "32";
      break;
    case Style::kCyan:
      code = "36";
      break;
  }
  return fmt::format("\x1b[{}m{}\x1b[0m", code, text);
}

// Characters, not bytes: continuation bytes do not count.
size_t Width(std::string_view text) {
  return static_cast<size_t>(std::count_if(
      text.begin(), text.end(), [](char c) { return (c & '\xc0') != '\x80'; }));
}

}  // namespace

std::string Styled(std::string_view text, Style style) {
  return Wrap(text, style, isatty(STDOUT_FILENO) != 0);
}

std::string StyledError(std::string_view text, Style style) {
  return Wrap(text, style, isatty(STDERR_FILENO) != 0);
}

std::string Printable(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size();) {
    const auto lead = static_cast<unsigned char>(text[i]);
    size_t length = 1;
    if (lead >= 0xc2 && lead <= 0xdf) length = 2;
    if (lead >= 0xe0 && lead <= 0xef) length = 3;
    if (lead >= 0xf0 && lead <= 0xf4) length = 4;
    const std::string_view character = text.substr(i, length);
    bool shown = lead < 0x80 ? (lead >= ' ' && lead != 0x7f) || lead == '\n'
                             : length > 1 && character.size() == length;
    for (size_t j = 1; j < character.size(); ++j) {
      shown = shown && (character[j] & '\xc0') == '\x80';
    }
    // U+0080..U+009F: a terminal may take U+009B for ESC [.
    if (lead == 0xc2 && shown && character[1] < '\xa0') shown = false;
    if (shown) {
      out += character;
      i += length;
    } else {
      out += '?';
      // A control character goes whole; of what is no character, one byte.
      i += lead == 0xc2 && length == character.size() &&
                   (character[1] & '\xc0') == '\x80'
               ? 2
               : 1;
    }
  }
  return out;
}

int ReportError(const absl::Status& status) {
  std::fprintf(stderr, "%s %s: %s\n",
               StyledError("error:", Style::kRed).c_str(),
               std::string(CodeName(status.code())).c_str(),
               Printable(Message(status)).c_str());
  return 1;
}

std::string Table(const std::vector<std::vector<std::string>>& rows) {
  std::vector<size_t> widths;
  for (const auto& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (size_t i = 0; i < row.size(); ++i) {
      widths[i] = std::max(widths[i], Width(row[i]));
    }
  }
  std::string text;
  for (size_t r = 0; r < rows.size(); ++r) {
    std::string line;
    for (size_t i = 0; i < rows[r].size(); ++i) {
      line += rows[r][i];
      if (i + 1 < rows[r].size()) {
        line.append(widths[i] + 2 - Width(rows[r][i]), ' ');
      }
    }
    text += (r == 0 ? Styled(line, Style::kBold) : line) + "\n";
  }
  return text;
}

ProgressBar::ProgressBar(std::string label)
    : label_(std::move(label)),
      is_terminal_(isatty(STDERR_FILENO) != 0),
      start_nanos_(Clock::Real().MonotonicNanos()) {}

ProgressBar::~ProgressBar() {
  if (drawn_) std::fputc('\n', stderr);
}

void ProgressBar::Update(int64_t done_bytes, int64_t total_bytes) {
  if (!is_terminal_ || total_bytes <= 0) return;
  constexpr int64_t kRedrawNanos = 50'000'000;  // 20 times a second
  const int64_t now = Clock::Real().MonotonicNanos();
  if (done_bytes < total_bytes && now - last_draw_nanos_ < kRedrawNanos) return;
  last_draw_nanos_ = now;
  drawn_ = true;
  constexpr int kWidth = 28;
  const double share = std::clamp(
      static_cast<double>(done_bytes) / static_cast<double>(total_bytes), 0.0,
      1.0);
  const int filled = static_cast<int>(share * kWidth);
  std::string bar(static_cast<size_t>(filled), '#');
  bar.append(static_cast<size_t>(kWidth - filled), '.');
  const double seconds = static_cast<double>(now - start_nanos_) / 1e9;
  const double rate =
      seconds > 0 ? static_cast<double>(done_bytes) / seconds : 0;
  std::fprintf(stderr, "\r%s [%s] %3.0f%%  %s  %s/s \x1b[K", label_.c_str(),
               bar.c_str(), share * 100, FormatBytes(total_bytes).c_str(),
               FormatBytes(static_cast<int64_t>(rate)).c_str());
  std::fflush(stderr);
}

}  // namespace conclave::cli
