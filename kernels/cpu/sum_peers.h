#pragma once

#include "kernels/cpu/cpu_ops.h"
#include "kernels/ops/sum_peers.h"

namespace krait::kernels {

void RunSumPeers(const CpuContext& context, const SumPeersParams& params);

}  // namespace krait::kernels
