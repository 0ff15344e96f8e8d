#include "coordinator/tools/sibling.h"

#include <filesystem>

namespace krait {

std::string SiblingPath(const std::string& name) {
  std::error_code error;
  const auto self = std::filesystem::read_symlink("/proc/self/exe", error);
  return error ? name : (self.parent_path() / name).string();
}

}  // namespace krait
