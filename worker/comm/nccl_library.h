#pragma once

#include "absl/status/statusor.h"
#include "worker/comm/nccl_api.h"

namespace krait {

// libnccl.so.2, loaded at the first call and never unloaded: a machine with one GPU needs none.
// UNAVAILABLE says why it cannot be had, FAILED_PRECONDITION that this build has no CUDA.
absl::StatusOr<NcclApi*> LoadNccl();

// The environment that NCCL reads, where the operator has not set it: NVLink multicast off
// (NCCL_NVLS_ENABLE=0), its sums have no fixed order. Before any other thread starts.
void SetNcclDefaults();

}  // namespace krait
