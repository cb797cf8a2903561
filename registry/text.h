// Text that strangers send: is it UTF-8, and how to show it in a message.
#ifndef CONCLAVE_REGISTRY_TEXT_H_
#define CONCLAVE_REGISTRY_TEXT_H_

#include <string>
#include <string_view>

namespace conclave::registry {

// Well-formed UTF-8 without NUL. (Overlong forms and surrogates are not.)
bool IsText(std::string_view bytes);

// The first 64 bytes with everything but printable ASCII as '?'.
std::string Shown(std::string_view bytes);

}  // namespace conclave::registry

#endif  // CONCLAVE_REGISTRY_TEXT_H_
