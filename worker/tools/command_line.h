#pragma once

// The arguments of one subcommand: --name value, --name=value, switches and positional words.

#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace krait {

struct CommandLine {
  std::map<std::string, std::string> values;  // of options that were given
  std::map<std::string, bool> switches;       // true if given
  std::vector<std::string> words;             // positional

  bool Has(const std::string& name) const { return values.count(name) != 0; }
  bool Switched(const std::string& name) const { return switches.count(name) != 0; }
};

// `options` take a value, `switches` do not. INVALID_ARGUMENT names what is unknown, given twice or
// without its value.
absl::StatusOr<CommandLine> ParseCommandLine(int argc, char** argv,
                                             const std::vector<std::string>& options,
                                             const std::vector<std::string>& switches);

// The exit code that a failed command ends with: 65 for a bad model, 69 for a disk that fails, 70
// for the rest.
int ExitCodeFor(const absl::Status& status);

}  // namespace krait
