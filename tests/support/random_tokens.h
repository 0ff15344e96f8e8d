#pragma once

#include <cstdint>
#include <random>
#include <vector>

#include "common/token.h"

namespace krait::testing {

inline std::vector<TokenId> RandomTokens(size_t count, int64_t vocab_size, uint64_t seed) {
  std::mt19937_64 words(seed);
  std::vector<TokenId> tokens(count);
  for (TokenId& token : tokens) token = static_cast<TokenId>(words() % vocab_size);
  return tokens;
}

}  // namespace krait::testing
