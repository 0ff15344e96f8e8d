#include "worker/cache/page_allocator.h"

#include "common/logging.h"

namespace krait {

PageAllocator::PageAllocator(int num_pages) : held_(num_pages, false) {
  for (PageId page = num_pages - 1; page >= 0; --page) free_.push_back(page);
}

void PageAllocator::Allocate(int count, std::vector<PageId>& pages) {
  CHECK_LE(count, num_free());
  for (int i = 0; i < count; ++i) {
    const PageId page = free_.back();
    free_.pop_back();
    held_[page] = true;
    pages.push_back(page);
  }
}

void PageAllocator::Free(absl::Span<const PageId> pages) {
  for (PageId page : pages) {
    CHECK(page >= 0 && page < num_pages() && held_[page]) << "page=" << page << " is not held";
    held_[page] = false;
    free_.push_back(page);
  }
}

void PageAllocator::CheckIntegrity() const {
  std::vector<bool> seen = held_;
  for (PageId page : free_) {
    CHECK(!seen[page]) << "page=" << page << " is free twice, or free and held";
    seen[page] = true;
  }
  for (int page = 0; page < num_pages(); ++page) CHECK(seen[page]) << "page=" << page << " is lost";
}

}  // namespace krait
