#pragma once

namespace krait {

// From now on what gRPC and protobuf say goes through LOG: one line an entry, escaped, cut and rate
// limited. They print what peers send them, as often as it comes. Once, in main.
void RouteLibraryLogs();

// Debian's Abseil follows the order of all locks, which costs a tenth of the coordinator's time.
// The unit tests, which never call this, keep it. Once, in main.
void StopLookingForDeadlocks();

}  // namespace krait
