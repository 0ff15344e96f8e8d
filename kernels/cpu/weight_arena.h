#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace krait::kernels {

// Memory for a rank's weights, handed out back to back: a step that reads them in the order they
// were prepared in walks memory forwards, and reading ahead at one's end finds the next one. In
// huge pages where the system grants them: a step touches all weights once, and needs few page
// walks for them then (one of two runs of a model of this showed a gain, the other none). Nothing
// is given back before the arena goes. One thread.
class WeightArena {
 public:
  // Zeroed, on a cache line; null if there is no memory. Valid as long as the arena.
  std::byte* Allocate(int64_t num_bytes);

 private:
  struct Unmap {
    int64_t size = 0;
    void operator()(std::byte* memory) const;
  };
  using Chunk = std::unique_ptr<std::byte, Unmap>;

  static Chunk MapChunk(int64_t num_bytes);

  std::vector<Chunk> chunks_;
  std::byte* next_ = nullptr;  // in the last chunk
  int64_t left_ = 0;           // bytes from next_ on
};

}  // namespace krait::kernels
