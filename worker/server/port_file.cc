#include "worker/server/port_file.h"

#include <unistd.h>

#include <cstdio>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "common/json.h"

namespace krait {

absl::Status WritePortFile(const std::string& path, const PortFile& ports) {
  if (path.empty()) return absl::OkStatus();
  const std::string scratch = absl::StrCat(path, ".", getpid());
  std::ofstream file(scratch);
  file << "{\"pid\": " << getpid() << ", \"name\": " << QuoteJson(ports.name)
       << ", \"role\": " << QuoteJson(ports.role) << ", \"port\": " << ports.port
       << ", \"admin_port\": " << ports.admin_port << "}\n";
  file.close();
  if (file && std::rename(scratch.c_str(), path.c_str()) == 0) return absl::OkStatus();
  return absl::UnavailableError(absl::StrCat("port_file: cannot write ", path));
}

}  // namespace krait
