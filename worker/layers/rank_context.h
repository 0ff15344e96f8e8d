#pragma once

#include "kernels/backend.h"
#include "worker/comm/communicator.h"
#include "worker/layers/sharding.h"

namespace krait {

// What every layer of one rank works with. Borrowed; all of it outlives the layers.
struct RankContext {
  Backend* backend = nullptr;
  Communicator* comm = nullptr;
  Sharding sharding;
  DType weight_dtype = DType::kBF16;  // what the weights are rounded to: kF32 or kBF16

  bool alone() const { return sharding.num_ranks == 1; }
  // Whether a sum over ranks is of one number a rank instead of one a block of the model: fewer
  // bytes, but the bits of this degree only, which is all that is promised of a GPU.
  bool sums_by_rank() const { return backend->device().kind == DeviceKind::kCuda; }
};

}  // namespace krait
