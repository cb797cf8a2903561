#include "registry/text.h"

#include <cstddef>
#include <cstdint>

namespace conclave::registry {

bool IsText(std::string_view bytes) {
  size_t i = 0;
  while (i < bytes.size()) {
    const auto lead = static_cast<uint8_t>(bytes[i]);
    if (lead == 0) return false;
    size_t length = 1;
    uint32_t point = lead;
    uint32_t least = 0;  // Smallest code point that needs this length.
    if (lead >= 0x80) {
      if (lead >= 0xC2 && lead <= 0xDF) {
        length = 2, point = lead & 0x1Fu, least = 0x80;
      } else if (lead >= 0xE0 && lead <= 0xEF) {
        length = 3, point = lead & 0x0Fu, least = 0x800;
      } else if (lead >= 0xF0 && lead <= 0xF4) {
        length = 4, point = lead & 0x07u, least = 0x10000;
      } else {
        return false;
      }
    }
    if (bytes.size() - i < length) return false;
    for (size_t j = 1; j < length; ++j) {
      const auto next = static_cast<uint8_t>(bytes[i + j]);
      if ((next & 0xC0u) != 0x80u) return false;
      point = point << 6 | (next & 0x3Fu);
    }
    const bool surrogate = point >= 0xD800 && point <= 0xDFFF;
    if (point < least || point > 0x10FFFF || surrogate) return false;
    i += length;
  }
  return true;
}

std::string Shown(std::string_view bytes) {
  std::string shown(bytes.substr(0, 64));
  for (char& c : shown) {
    if (c < ' ' || c > '~') c = '?';
  }
  return shown;
}

}  // namespace conclave::registry
