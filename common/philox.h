#pragma once

// Philox4x32-10, a counter-based generator: 128 counter bits and a 64-bit key to 128 random bits.
// Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011.

#include <array>
#include <cstdint>

#include "common/fast_math.h"

namespace krait {

KRAIT_HOST_DEVICE inline std::array<uint32_t, 4> Philox4x32(const std::array<uint32_t, 4>& counter,
                                                            uint32_t key0, uint32_t key1) {
  const fast_math::PhiloxBlock block =
      fast_math::PhiloxRounds({{counter[0], counter[1], counter[2], counter[3]}}, key0, key1);
  return {block.word[0], block.word[1], block.word[2], block.word[3]};
}

}  // namespace krait
