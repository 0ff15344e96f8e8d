#pragma once

// The noise that draws tokens: a pure function of (seed, position, token id, choice), so the token
// at a position depends on no draft, batch, shard or restart.

#include <cstdint>

#include "common/fast_math.h"
#include "common/philox.h"
#include "common/token.h"

namespace krait {

// Fourth word of the counter: keeps other uses of the generator apart from this one.
inline constexpr uint32_t kGumbelDomain = 0;

// No noise is larger: it is that of word 0, -log(2^-33) = 22.874.
inline constexpr float kMaxGumbel = 22.9f;

struct GumbelKey {
  uint64_t seed = 0;
  int64_t position = 0;  // absolute, of the drawn token, prompt counted
  uint32_t choice = 0;   // which of n
};

// The word of token `id`: number id mod 4 of the block at counter id / 4.
KRAIT_HOST_DEVICE inline uint32_t GumbelWord(const GumbelKey& key, TokenId id) {
  const uint32_t index = static_cast<uint32_t>(id);
  const fast_math::PhiloxBlock block = fast_math::PhiloxRounds(
      {{static_cast<uint32_t>(key.position), index / 4, key.choice, kGumbelDomain}},
      static_cast<uint32_t>(key.seed), static_cast<uint32_t>(key.seed >> 32));
  return block.word[index % 4];
}

KRAIT_HOST_DEVICE inline float Gumbel(const GumbelKey& key, TokenId id) {
  return fast_math::GumbelFromWord(GumbelWord(key, id));
}

}  // namespace krait
