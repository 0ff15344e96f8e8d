#include "worker/models/config_field.h"

#include "absl/strings/str_cat.h"

namespace krait {

absl::Status BadField(const std::string& file, const std::string& field,
                      const std::string& reason) {
  return absl::InvalidArgumentError(absl::StrCat(file, ": ", field, ": ", reason));
}

absl::Status CheckRange(const std::string& file, const std::string& field, int64_t value,
                        IntRange range) {
  if (value >= range.min && value <= range.max) return absl::OkStatus();
  return BadField(file, field,
                  absl::StrCat(value, " is outside [", range.min, ", ", range.max, "]"));
}

absl::Status CheckRange(const std::string& file, const std::string& field, double value,
                        FloatRange range) {
  if (value >= range.min && value <= range.max) return absl::OkStatus();
  return BadField(file, field,
                  absl::StrCat(value, " is outside [", range.min, ", ", range.max, "]"));
}

}  // namespace krait
