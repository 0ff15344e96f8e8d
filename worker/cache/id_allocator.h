#pragma once

#include <cstdint>
#include <vector>

#include "absl/types/span.h"

namespace krait {

// Hands out ids 0 .. num_ids - 1 of KV pages or of state slots; no memory. One thread.
class IdAllocator {
 public:
  explicit IdAllocator(int num_ids);

  // Appends `count` ids to `ids`. CHECK-fails if fewer are free: the caller counts first.
  void Allocate(int count, std::vector<int32_t>& ids);
  // CHECK-fails for an id that is not held.
  void Free(absl::Span<const int32_t> ids);

  int num_ids() const { return static_cast<int>(held_.size()); }
  int num_free() const { return static_cast<int>(free_.size()); }
  bool held(int32_t id) const { return held_[id]; }
  // CHECK-fails unless every id is either held or free, once.
  void CheckIntegrity() const;

 private:
  std::vector<int32_t> free_;  // LIFO: what was freed last is likeliest still in a cache of the CPU
  std::vector<bool> held_;
};

}  // namespace krait
