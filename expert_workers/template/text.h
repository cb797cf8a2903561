// A string that remembers, byte by byte, who wrote it: the template (trusted)
// or the conversation (untrusted). Concatenation, slicing, trimming and
// replacing keep the marks; an operation that cannot goes through
// Text(bytes, trusted && ...).
#ifndef CONCLAVE_EXPERT_WORKERS_TEMPLATE_TEXT_H_
#define CONCLAVE_EXPERT_WORKERS_TEMPLATE_TEXT_H_

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "expert_workers/tokenizer/piece.h"

namespace conclave::engine {

class Text {
 public:
  Text() = default;
  Text(std::string bytes, bool trusted)
      : bytes_(std::move(bytes)), trusted_(trusted) {}

  const std::string& bytes() const { return bytes_; }
  std::string_view view() const { return bytes_; }
  size_t size() const { return bytes_.size(); }
  bool empty() const { return bytes_.empty(); }

  // True when every byte is trusted (the empty text is).
  bool trusted() const;

  void Append(const Text& other);
  void Append(std::string_view bytes, bool trusted);
  Text Substr(size_t pos, size_t length = std::string::npos) const;

  // Maximal stretches of one mark.
  std::vector<Piece> ToPieces() const;

 private:
  bool UniformOrEmpty() const { return marks_.empty(); }
  void SpellMarks();

  std::string bytes_;
  std::string marks_;  // one byte each, 1 = trusted; empty: all are trusted_
  bool trusted_ = true;
};

// Python's str methods on UTF-8; positions and lengths in characters count
// code points. An empty `chars` means white space.
bool IsPythonSpace(char32_t c);
Text Strip(const Text& text, std::string_view chars, bool left, bool right);
// As std::string_view's find and rfind, in time that does not grow with the
// needle's length (past 256 bytes): a template's author chooses both.
size_t Find(std::string_view text, std::string_view needle, size_t from = 0);
size_t FindLast(std::string_view text, std::string_view needle);
Text Replace(const Text& text, std::string_view from, const Text& to,
             int64_t max_count);
// Splits at white space when `separator` is empty. max_splits < 0: all.
std::vector<Text> Split(const Text& text, std::string_view separator,
                        int64_t max_splits);
std::vector<Text> SplitFromRight(const Text& text, std::string_view separator,
                                 int64_t max_splits);
std::vector<Text> SplitLines(const Text& text, bool keep_ends);
// Characters of `text`, each a Text.
std::vector<Text> Characters(const Text& text);
int64_t CountCharacters(std::string_view text);
// Where the character `index` starts; text.size() when there are fewer.
size_t CharacterOffset(std::string_view text, int64_t index);

enum class CaseChange { kUpper, kLower, kTitle, kCapitalize };
// Case changes move bytes about: a result is trusted when all of it was.
Text ChangeCase(const Text& text, CaseChange change);

}  // namespace conclave::engine

#endif  // CONCLAVE_EXPERT_WORKERS_TEMPLATE_TEXT_H_
