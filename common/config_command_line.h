#pragma once

#include <google/protobuf/message.h>

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace krait {

struct CommandLineRequest {
  bool help = false;
  bool version = false;
};

// Reads a server's command line into `config`: "--config FILE" reads a file; "--field=value" and
// "--field value" set one field, with dashes or underscores, after all files whatever the order.
// The first --help or --version ends it. INVALID_ARGUMENT or NOT_FOUND names the flag or the field.
absl::StatusOr<CommandLineRequest> ParseConfigCommandLine(absl::Span<const std::string> arguments,
                                                          google::protobuf::Message& config);

// Of --help: a line for each field, with its type.
std::string ConfigFieldsHelp(const google::protobuf::Message& config);

}  // namespace krait
