#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "common/gguf_cursor.h"

namespace krait {

// A metadata value. Integers of every width are widened to int64 or uint64; arrays are homogeneous.
using GgufValue = std::variant<bool, int64_t, uint64_t, double, std::string, std::vector<bool>,
                               std::vector<int64_t>, std::vector<uint64_t>, std::vector<double>,
                               std::vector<std::string>>;

// Reads a value's type and the value. INVALID_ARGUMENT names what is unknown or too long.
absl::StatusOr<GgufValue> ReadGgufValue(GgufCursor& cursor);

}  // namespace krait
