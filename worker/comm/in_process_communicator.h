#pragma once

#include <memory>
#include <vector>

#include "absl/types/span.h"
#include "kernels/backend.h"
#include "worker/comm/communicator.h"

namespace krait {

// Communicators of ranks that are threads of this process, one a backend, in rank order; a single
// backend makes a group of one, which never waits. Ranks exchange addresses, not data: every rank
// reads its peers' partial sums where they lie and adds all blocks itself, on its own backend.
//
// The communicators share the group's state; each may be destroyed on its own, but a rank's
// buffers must outlive every peer's last call (join the rank threads first). `backends` outlive
// the communicators.
std::vector<std::unique_ptr<Communicator>> CreateInProcessGroup(
    absl::Span<Backend* const> backends);

}  // namespace krait
