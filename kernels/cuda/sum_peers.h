#pragma once

#include "kernels/cuda/cuda_ops.h"
#include "kernels/ops/sum_peers.h"

namespace krait::kernels {

void RunSumPeers(const CudaContext& context, const SumPeersParams& params);

}  // namespace krait::kernels
