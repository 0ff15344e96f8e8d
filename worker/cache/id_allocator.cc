#include "worker/cache/id_allocator.h"

#include "common/logging.h"

namespace krait {

IdAllocator::IdAllocator(int num_ids) : held_(num_ids, false) {
  for (int32_t id = num_ids - 1; id >= 0; --id) free_.push_back(id);
}

void IdAllocator::Allocate(int count, std::vector<int32_t>& ids) {
  CHECK_LE(count, num_free());
  for (int i = 0; i < count; ++i) {
    const int32_t id = free_.back();
    free_.pop_back();
    held_[id] = true;
    ids.push_back(id);
  }
}

void IdAllocator::Free(absl::Span<const int32_t> ids) {
  for (int32_t id : ids) {
    CHECK(id >= 0 && id < num_ids() && held_[id]) << "id=" << id << " is not held";
    held_[id] = false;
    free_.push_back(id);
  }
}

void IdAllocator::CheckIntegrity() const {
  std::vector<bool> seen = held_;
  for (int32_t id : free_) {
    CHECK(!seen[id]) << "id=" << id << " is free twice, or free and held";
    seen[id] = true;
  }
  for (int id = 0; id < num_ids(); ++id) CHECK(seen[id]) << "id=" << id << " is lost";
}

}  // namespace krait
