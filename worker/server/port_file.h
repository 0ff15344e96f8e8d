#pragma once

#include <string>

#include "absl/status/status.h"

namespace krait {

// What a process tells its supervisor once it listens.
struct PortFile {
  std::string name;
  std::string role;
  int port = 0;  // gRPC; 0 if it has none
  int admin_port = 0;
};

// Writes it as JSON, with this process's id, whole or not at all: a supervisor may read it at any
// moment. Nothing if `path` is empty. UNAVAILABLE names the path.
absl::Status WritePortFile(const std::string& path, const PortFile& ports);

}  // namespace krait
