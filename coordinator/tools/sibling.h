#pragma once

#include <string>

namespace krait {

// Path of a binary in the folder of the running one ("krait-worker").
std::string SiblingPath(const std::string& name);

}  // namespace krait
