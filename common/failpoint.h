#pragma once

#include <string_view>

namespace krait {

// Faults on purpose, so that a test can show that it would find them. True if the environment
// variable KRAIT_FAILPOINTS, a list separated by commas, names `failpoint`. Only in builds with
// KRAIT_INVARIANTS; in others it is false at compile time, and the name is not in the binary.
#ifdef KRAIT_INVARIANTS
bool FailpointEnabled(std::string_view failpoint);
#else
constexpr bool FailpointEnabled(std::string_view) { return false; }
#endif

}  // namespace krait
