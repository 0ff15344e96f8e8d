#pragma once

#include <string>
#include <string_view>

#include "absl/strings/string_view.h"

namespace krait {

// Debian's Abseil keeps its own string_view type, and nothing converts between it and the standard
// one. Interfaces here take std::string_view; these two adapt at the call into Abseil and back.
inline absl::string_view ToAbsl(std::string_view text) { return {text.data(), text.size()}; }
inline std::string_view ToStd(absl::string_view text) { return {text.data(), text.size()}; }

}  // namespace krait
