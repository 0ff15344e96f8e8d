#pragma once

// A rolling hash of a token sequence (FNV-1a over the ids' bytes, 64 bits): cheap evidence that
// target and draft, or two ranks, speak of the same tokens. Not a security measure.

#include <cstdint>

#include "absl/types/span.h"
#include "common/token.h"

namespace krait {

inline constexpr uint64_t kEmptyPrefixHash = 14695981039346656037ull;

inline uint64_t ExtendPrefixHash(uint64_t hash, TokenId id) {
  for (int shift = 0; shift < 32; shift += 8) {
    hash = (hash ^ ((static_cast<uint32_t>(id) >> shift) & 0xff)) * 1099511628211ull;
  }
  return hash;
}

inline uint64_t PrefixHash(absl::Span<const TokenId> ids) {
  uint64_t hash = kEmptyPrefixHash;
  for (TokenId id : ids) hash = ExtendPrefixHash(hash, id);
  return hash;
}

}  // namespace krait
