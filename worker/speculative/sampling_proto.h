#pragma once

#include "krait/v1/generation.pb.h"
#include "worker/sampling/sampling_params.h"

namespace krait {

// An absent field keeps SamplingParams' default. Ranges are the caller's to check. `choice` and
// `end_ids` are not part of the message: the caller knows them, or sends them beside it.
SamplingParams FromProto(const v1::SamplingParams& proto);

// Every field set, so that the receiver need not know the defaults.
v1::SamplingParams ToProto(const SamplingParams& sampling);

}  // namespace krait
