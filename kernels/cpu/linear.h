#pragma once

#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/packed_weight.h"

namespace krait::kernels {

// Outputs a panel that the target's kernels read: two registers of floats.
int PanelWidth(Target target);

// params.weight was packed with PanelWidth(context.target).
void RunLinear(const CpuContext& context, const LinearParams& params);

}  // namespace krait::kernels
