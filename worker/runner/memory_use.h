#pragma once

#include <cstdint>
#include <string>

namespace krait {

// What a process's ranks hold for as long as they live; bytes are over these ranks.
struct MemoryUse {
  int64_t weight_bytes = 0;  // the embedding included
  int num_pages = 0;
  int64_t kv_bytes = 0;
  int num_state_slots = 0;  // 0 without recurrent layers, like all below
  int64_t state_bytes = 0;  // checkpoints
  int64_t ring_bytes = 0;   // inputs since them, and those of the convolutions
  int fold_interval = 0;    // tokens between two writes of a checkpoint, 0 if there is one a step

  int64_t total_bytes() const { return weight_bytes + kv_bytes + state_bytes + ring_bytes; }
  // Of another rank of the same process: pages and slots are the same ones.
  void Add(const MemoryUse& rank);
  // "weight_bytes=1 kv_pages=2 ...", for the log.
  std::string ToString() const;
};

}  // namespace krait
