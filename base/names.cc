#include "base/names.h"

#include <algorithm>
#include <numeric>

namespace conclave {
namespace {

size_t EditDistance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t substitute = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({substitute, row[j] + 1, row[j - 1] + 1});
    }
  }
  return row[b.size()];
}

bool IsNameCharacter(char c, bool first) {
  if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9')) return true;
  return !first && (c == '.' || c == '_' || c == '-');
}

}  // namespace

absl::Status CheckName(std::string_view what, std::string_view name) {
  constexpr size_t kMaxLength = 64;
  bool good = !name.empty() && name.size() <= kMaxLength &&
              name.find("..") == std::string_view::npos;
  for (size_t i = 0; good && i < name.size(); ++i) {
    good = IsNameCharacter(name[i], i == 0);
  }
  if (!good) {
    std::string shown(name.substr(0, kMaxLength));
    for (char& c : shown) {
      if (c < ' ' || c > '~') c = '?';
    }
    return InvalidArgument(
        "{} name \"{}\" is not valid: use 1 to 64 of a-z, 0-9, '.', '_', '-', "
        "starting with a letter or digit, without \"..\"",
        what, shown);
  }
  if (name == "auto") {
    return InvalidArgument(
        "{} name \"auto\" is reserved: as a model it means \"route\"", what);
  }
  return absl::OkStatus();
}

std::vector<std::string> NearestNames(std::string_view name,
                                      const std::vector<std::string>& known,
                                      size_t limit) {
  name = name.substr(0, 128);  // Distance costs length squared.
  std::vector<std::pair<size_t, std::string>> scored;
  for (const std::string& candidate : known) {
    const size_t distance = EditDistance(name, candidate);
    const bool prefix =
        candidate.starts_with(name) || name.starts_with(candidate);
    if (distance * 3 <= std::max(name.size(), candidate.size()) || prefix) {
      scored.emplace_back(distance, candidate);
    }
  }
  std::sort(scored.begin(), scored.end());
  std::vector<std::string> nearest;
  for (auto& [distance, candidate] : scored) {
    if (nearest.size() == limit) break;
    nearest.push_back(std::move(candidate));
  }
  return nearest;
}

std::string DidYouMean(std::string_view name,
                       const std::vector<std::string>& known) {
  const std::vector<std::string> nearest = NearestNames(name, known);
  if (nearest.empty()) return "";
  std::string text = " Did you mean: ";
  for (size_t i = 0; i < nearest.size(); ++i) {
    if (i > 0) text += ", ";
    text += nearest[i];
  }
  return text + "?";
}

}  // namespace conclave
