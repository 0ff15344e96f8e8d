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
};

}  // namespace krait
