#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "krait/config.pb.h"

namespace krait {

struct CoordinatorCommandLine {
  CoordinatorConfig config;
  bool help = false;
  bool version = false;
};

// "--config FILE" reads a file; "--field=value" and "--field value" set one field of
// CoordinatorConfig (dashes may stand for underscores), files first whatever the order.
// INVALID_ARGUMENT or NOT_FOUND names the flag or the field.
absl::StatusOr<CoordinatorCommandLine> ParseCoordinatorCommandLine(
    absl::Span<const std::string> arguments);

// The text of --help: every field with its type.
std::string CoordinatorHelp();

}  // namespace krait
