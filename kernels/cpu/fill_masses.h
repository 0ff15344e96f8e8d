#pragma once

#include <cstdint>

#include "absl/types/span.h"
#include "kernels/ops/sampling.h"

namespace krait::kernels {

// The mass of each logit of a row that lies on the host; ExpMass is their sum. On the calling
// thread.
void FillMasses(const MassRow& row, absl::Span<uint64_t> out);

}  // namespace krait::kernels
