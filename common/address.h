#pragma once

#include <string>

#include "absl/status/statusor.h"

namespace krait {

struct HostPort {
  std::string host;  // without brackets
  int port = 0;
};

// "host:port" or "[v6]:port", port 0 to 65535. INVALID_ARGUMENT names the text.
absl::StatusOr<HostPort> ParseHostPort(const std::string& text);

// The inverse; brackets around an IPv6 address.
std::string FormatHostPort(const std::string& host, int port);

// True if `host` is "localhost", in 127.0.0.0/8, or ::1: only this machine can reach it.
bool IsLoopbackHost(const std::string& host);

// True for "0.0.0.0" and "::", which name every interface.
bool IsWildcardHost(const std::string& host);

}  // namespace krait
