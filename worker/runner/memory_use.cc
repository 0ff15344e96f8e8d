#include "worker/runner/memory_use.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace krait {

void MemoryUse::Add(const MemoryUse& rank) {
  weight_bytes += rank.weight_bytes;
  kv_bytes += rank.kv_bytes;
  state_bytes += rank.state_bytes;
  ring_bytes += rank.ring_bytes;
  num_pages = std::max(num_pages, rank.num_pages);
  num_state_slots = std::max(num_state_slots, rank.num_state_slots);
  fold_interval = std::max(fold_interval, rank.fold_interval);
}

std::string MemoryUse::ToString() const {
  return absl::StrCat("weight_bytes=", weight_bytes, " kv_pages=", num_pages,
                      " kv_bytes=", kv_bytes, " state_slots=", num_state_slots,
                      " state_bytes=", state_bytes, " ring_bytes=", ring_bytes,
                      " fold_interval=", fold_interval);
}

}  // namespace krait
