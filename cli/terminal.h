// What a person sees: colours and a progress bar on a terminal, plain lines
// elsewhere; tables whose columns line up.
#ifndef CONCLAVE_CLI_TERMINAL_H_
#define CONCLAVE_CLI_TERMINAL_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace conclave::cli {

enum class Style { kBold, kDim, kRed, kGreen, kCyan };

// `text` in a style when standard output (or error) is a terminal.
std::string Styled(std::string_view text, Style style);
std::string StyledError(std::string_view text, Style style);

// `text` with control characters, C1 ones too, and bytes that are no UTF-8 as
// '?': what quotes a stranger must not drive the terminal. Line ends stay.
std::string Printable(std::string_view text);

// "error: NOT_FOUND: ..." on standard error; returns the exit code: 1, or 2
// for a mistake in the command itself.
int ReportError(const absl::Status& status);

// Rows as a table; the first row is the heading. Columns are as wide as their
// widest cell; a cell is counted in characters, not bytes.
std::string Table(const std::vector<std::vector<std::string>>& rows);

// One line on standard error, redrawn in place on a terminal; nothing
// elsewhere but a last line.
class ProgressBar {
 public:
  explicit ProgressBar(std::string label);
  ~ProgressBar();
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;
  void Update(int64_t done_bytes, int64_t total_bytes);

 private:
  const std::string label_;
  const bool is_terminal_;
  const int64_t start_nanos_;
  int64_t last_draw_nanos_ = 0;
  bool drawn_ = false;
};

}  // namespace conclave::cli

#endif  // CONCLAVE_CLI_TERMINAL_H_
