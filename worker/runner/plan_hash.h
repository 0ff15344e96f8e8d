#pragma once

#include <bit>
#include <cstdint>

namespace krait {

// FNV-1a over 64-bit words: evidence that two ranks hold the same plan or drew the same tokens.
// Not a security measure.
class PlanHasher {
 public:
  PlanHasher& Add(int64_t value) {
    for (int shift = 0; shift < 64; shift += 8) {
      hash_ = (hash_ ^ ((static_cast<uint64_t>(value) >> shift) & 0xff)) * 1099511628211ull;
    }
    return *this;
  }
  PlanHasher& Add(float value) { return Add(int64_t{std::bit_cast<uint32_t>(value)}); }
  // A list's length goes first, so that no two lists of lists look alike.
  template <typename List>
  PlanHasher& AddList(const List& list) {
    Add(static_cast<int64_t>(list.size()));
    for (const auto value : list) Add(static_cast<int64_t>(value));
    return *this;
  }
  uint64_t hash() const { return hash_; }

 private:
  uint64_t hash_ = 14695981039346656037ull;
};

}  // namespace krait
