#pragma once

#include <cstdint>

namespace krait {

// A token's index in the target model's vocabulary. Every interface speaks target ids, the draft's
// too.
using TokenId = int32_t;

// Names one generation inside one worker process; never reused within the process.
using SequenceId = int64_t;

}  // namespace krait
