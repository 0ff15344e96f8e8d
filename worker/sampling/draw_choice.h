#pragma once

#include <optional>

#include "kernels/ops/draw_tokens.h"
#include "worker/sampling/sampling_params.h"

namespace krait {

// How a device draws for `params` from one rank's whole logits, with the bits of ShardSampler.
// Nothing if that takes more than the row itself: logprobs, or what has been generated so far.
std::optional<DrawChoice> DrawChoiceOf(const SamplingParams& params);

}  // namespace krait
