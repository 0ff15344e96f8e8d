#pragma once

namespace krait {

// From now on what gRPC and protobuf say goes through LOG: one line an entry, escaped, cut and rate
// limited. They print what peers send them, as often as it comes. Once, in main.
void RouteLibraryLogs();

}  // namespace krait
