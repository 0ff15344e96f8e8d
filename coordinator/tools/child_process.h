#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace krait {

// Starts argv[0] with standard output and error appended to `log_path`. The child gets SIGTERM if
// this process dies, and starts with no signal blocked. UNAVAILABLE if the log cannot be opened or
// no process can be made; a program that cannot be executed ends with code 127.
absl::StatusOr<pid_t> StartChild(const std::vector<std::string>& argv, const std::string& log_path);

// "exit code 65" or "signal 9", of a status from waitpid.
std::string DescribeExit(int wait_status);

// The last line of a file that holds anything but space.
std::string LastLine(const std::string& path);

}  // namespace krait
