#include "common/build_info.h"

#include <fstream>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/sha256.h"
#include "common/strings.h"

namespace krait {
namespace {

std::string HashOfExecutable() {
  std::ifstream file("/proc/self/exe", std::ios::binary);
  if (!file) return "unknown";
  Sha256 sha256;
  std::vector<char> buffer(1 << 20);
  while (file.read(buffer.data(), static_cast<std::streamsize>(buffer.size())) ||
         file.gcount() > 0) {
    sha256.Update(std::string_view(buffer.data(), static_cast<size_t>(file.gcount())));
  }
  return sha256.FinishHex().substr(0, 16);
}

}  // namespace

std::string_view Version() { return KRAIT_VERSION; }

const std::string& BuildId() {
  static const std::string& id = *new std::string(HashOfExecutable());
  return id;
}

std::string VersionLine(std::string_view program) {
  return absl::StrCat(ToAbsl(program), " ", ToAbsl(Version()), " (build ", BuildId(), ")");
}

}  // namespace krait
