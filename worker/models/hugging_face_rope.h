#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "worker/layers/rope_scaling.h"
#include "worker/models/hugging_face_source.h"

namespace krait {

// rope_theta and rope_scaling of a config.json, or newer exporters' rope_parameters with both.
// Types "default", "linear", "llama3", and "longrope" with one list of factors and no attention
// factor, which is what `krait convert` makes of GGUF's rope_freqs. INVALID_ARGUMENT names every
// other type and every field that this build would not obey. Without `scale` the scaling is not
// read at all.
absl::StatusOr<RopeConfig> ReadHuggingFaceRope(const HuggingFaceSource& source, int64_t head_dim,
                                               bool scale = true);

}  // namespace krait
