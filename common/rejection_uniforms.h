#pragma once

// The random numbers of rejection sampling: pure functions of (seed, position, choice, purpose),
// one each, on streams of their own beside common/gumbel.h's. A round that follows a rejection
// drafts the same positions again with the same numbers: those it had drawn beyond the rejection
// have decided nothing.

#include <cstdint>

#include "common/fast_math.h"
#include "common/gumbel.h"

namespace krait {

// The fourth word of the counter, twice, and which half of the block; kGumbelDomain is another
// word. A draft's judge wants two of them for a position: they cost one block.
enum class UniformPurpose : uint32_t {
  kPropose = 2,  // draws the draft
  kAccept = 4,   // accepts it or not
  kReplace = 5,  // draws the token that follows the accepted ones
};

KRAIT_HOST_DEVICE inline uint64_t UniformBits(const GumbelKey& key, UniformPurpose purpose) {
  const uint32_t code = static_cast<uint32_t>(purpose);
  const fast_math::PhiloxBlock block = fast_math::PhiloxRounds(
      {{static_cast<uint32_t>(key.position), 0, key.choice, code / 2}},
      static_cast<uint32_t>(key.seed), static_cast<uint32_t>(key.seed >> 32));
  const uint32_t half = code % 2 * 2;
  return uint64_t{block.word[half]} << 32 | block.word[half + 1];
}

// In [0, 1): 0 can come, 1 cannot.
KRAIT_HOST_DEVICE inline double UniformOf(uint64_t bits) {
  return static_cast<double>(bits >> 11) * 0x1p-53;
}

// floor(bits / 2^64 * total): below `total`, each number as likely as the next but for 2^-64.
KRAIT_HOST_DEVICE inline uint64_t ScaleBits(uint64_t bits, uint64_t total) {
#if defined(__CUDA_ARCH__)
  return __umul64hi(bits, total);
#else
  return static_cast<uint64_t>(static_cast<unsigned __int128>(bits) * total >> 64);
#endif
}

}  // namespace krait
