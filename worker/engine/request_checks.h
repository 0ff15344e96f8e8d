#pragma once

#include "absl/status/status.h"
#include "worker/engine/engine_interface.h"

namespace krait {

struct RequestBounds {
  int vocab_size = 0;
  int max_context_tokens = 0;
  int max_running = 0;  // choices of a request run together
};

// INVALID_ARGUMENT naming the first field that is out of range, and the limit. The engine does not
// trust its caller: whatever passes here can run without harm to others. Thread-safe.
absl::Status CheckRequest(const GenerationRequest& request, const RequestBounds& bounds);

}  // namespace krait
