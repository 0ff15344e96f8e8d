#pragma once

#include <string>

namespace krait {

// The path of a program that lies beside the running one.
std::string SiblingBinary(const std::string& name);

}  // namespace krait
