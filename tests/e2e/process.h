#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"

namespace krait {

// A child process whose standard error goes to a file. Killed and reaped when it goes out of scope.
class Process {
 public:
  // `argv[0]` is a path. Aborts the test binary if the program cannot be started.
  static Process Start(const std::vector<std::string>& argv, const std::string& log_path);

  Process() = default;
  Process(Process&& other) noexcept { *this = std::move(other); }
  Process& operator=(Process&& other) noexcept;
  ~Process();

  pid_t pid() const { return pid_; }
  bool running();
  void Signal(int signal);
  // The exit code, or 128 + signal; empty if it still runs after `timeout`.
  std::optional<int> Wait(absl::Duration timeout);
  std::string Log() const;

 private:
  void Reap(int status);

  pid_t pid_ = -1;
  std::optional<int> exit_code_;
  std::string log_path_;
};

std::string ReadFileOrEmpty(const std::string& path);
// A TCP port on loopback that nothing listens on at this moment.
int PickFreePort();
// Path of a binary of this build (KRAIT_BIN_DIR, set by ctest).
std::string BinaryPath(const std::string& name);

}  // namespace krait
