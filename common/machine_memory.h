#pragma once

#include <cstdint>

namespace krait {

// Bytes that a process may use at most: the machine's memory, or less if a control group (a
// container's, version 1 or 2) limits it.
int64_t MachineMemoryBytes();

}  // namespace krait
