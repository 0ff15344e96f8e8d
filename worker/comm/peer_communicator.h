#pragma once

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "kernels/backend.h"
#include "worker/comm/communicator.h"

namespace krait {

// Communicators of ranks that are threads of this process and share one GPU, one a backend, in rank
// order. A sum is an op of the backend in which the ranks' kernels meet, and read their peers'
// partial sums where they lie (kernels/ops/sum_peers.h): nothing of it goes through the host. NCCL
// has no such ranks; they serve to test tensor-parallel arithmetic where there is one GPU.
//
// As CreateInProcessGroup's they share the group's state, and buffers outlive every peer's last
// call. One block a rank. `wait`: of one Await, a backstop. `backends` outlive the communicators.
// RESOURCE_EXHAUSTED names the bytes.
absl::StatusOr<std::vector<std::unique_ptr<Communicator>>> CreatePeerGroup(
    absl::Span<Backend* const> backends, absl::Duration wait = absl::Minutes(2));

}  // namespace krait
