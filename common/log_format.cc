#include "common/log_format.h"

#include "absl/strings/str_cat.h"
#include "common/field_error.h"

namespace krait {
namespace {

constexpr int kMaxVerbosity = 9;

}  // namespace

absl::StatusOr<LogOptions> MakeLogOptions(const std::string& format, int verbosity) {
  if (!format.empty() && format != "text" && format != "json") {
    return FieldError("log_format", absl::StrCat("must be text or json, got \"", format, "\""));
  }
  if (verbosity < 0 || verbosity > kMaxVerbosity) {
    return FieldError("log_verbosity",
                      absl::StrCat("must be 0 to ", kMaxVerbosity, ", got ", verbosity));
  }
  return LogOptions{.json = format == "json", .verbosity = verbosity};
}

}  // namespace krait
