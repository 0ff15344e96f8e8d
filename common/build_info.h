#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace krait {

// "0.1.0", the project's version.
std::string_view Version();

// Coordinator, worker and draft interoperate when their numbers differ by at most one.
inline constexpr uint32_t kWireVersion = 1;

// Names the running program's bits: the first 16 hex digits of the SHA-256 of its executable file.
// Two builds of one source tree with one compiler agree; anything that could change a token's bits
// differs. Read once; "unknown" if the file cannot be read. Thread-safe.
const std::string& BuildId();

// "krait-worker 0.1.0 (build 0123456789abcdef)" for --version.
std::string VersionLine(std::string_view program);

// Exit codes of every binary (after sysexits.h).
inline constexpr int kExitUsage = 64;
inline constexpr int kExitBadModel = 65;
inline constexpr int kExitUnavailable = 69;
inline constexpr int kExitInternal = 70;

}  // namespace krait
