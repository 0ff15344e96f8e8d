#pragma once

#include <vector>

#include "absl/types/span.h"
#include "worker/cache/cache_spec.h"

namespace krait {

// Hands out KV page ids 0 .. num_pages - 1; no memory. One thread.
class PageAllocator {
 public:
  explicit PageAllocator(int num_pages);

  // Appends `count` pages to `pages`. CHECK-fails if fewer are free: the caller counts first.
  void Allocate(int count, std::vector<PageId>& pages);
  // CHECK-fails for a page that is not held.
  void Free(absl::Span<const PageId> pages);

  int num_pages() const { return static_cast<int>(held_.size()); }
  int num_free() const { return static_cast<int>(free_.size()); }
  bool held(PageId page) const { return held_[page]; }
  // CHECK-fails unless every page is either held or free, once.
  void CheckIntegrity() const;

 private:
  std::vector<PageId> free_;  // LIFO: a page freed last is likeliest still in a cache of the CPU
  std::vector<bool> held_;
};

}  // namespace krait
