#pragma once

#include <optional>

#include "absl/status/statusor.h"
#include "kernels/core/device.h"

namespace krait {

// What carries sums and gathers between ranks.
enum class CommKind {
  kInProcess,  // threads of one process; on CUDA they share one GPU
  kGloo,       // processes, between CPUs
  kNccl,       // a GPU each, in one process or several
};

// What a group of these ranks uses: what fits, or `wanted`. A FieldError names comm if that does
// not go with the others.
absl::StatusOr<CommKind> ChooseComm(std::optional<CommKind> wanted, DeviceKind device,
                                    int tensor_parallel_size, int num_processes);

}  // namespace krait
