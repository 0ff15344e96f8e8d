#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace krait {

// Starts `argv` (argv[0] is a path) in a process group of its own, with standard input from nowhere
// and output appended to `log_path`. It is killed by the kernel when this process's main thread
// ends, so call this from there. UNAVAILABLE names what could not be started. The caller reaps.
absl::StatusOr<pid_t> StartChild(const std::vector<std::string>& argv, const std::string& log_path);

// The last non-empty line of a file; empty if it cannot be read.
std::string LastLine(const std::string& path);

}  // namespace krait
