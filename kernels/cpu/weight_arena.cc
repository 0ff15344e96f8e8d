#include "kernels/cpu/weight_arena.h"

#include <sys/mman.h>

#include <algorithm>
#include <utility>

#include "common/logging.h"

namespace krait::kernels {
namespace {

constexpr int64_t kCacheLine = 64;
constexpr int64_t kHugePage = int64_t{2} << 20;
// Address space; memory is taken as it is first written.
constexpr int64_t kChunkBytes = int64_t{64} << 20;

int64_t RoundUp(int64_t value, int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

}  // namespace

void WeightArena::Unmap::operator()(std::byte* memory) const { munmap(memory, size); }

// Maps a huge page more than asked for and gives back what lies before and behind whole ones.
WeightArena::Chunk WeightArena::MapChunk(int64_t num_bytes) {
  const int64_t size = RoundUp(num_bytes, kHugePage);
  void* mapped =
      mmap(nullptr, size + kHugePage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) return Chunk(nullptr, Unmap{});
  auto* const begin = static_cast<std::byte*>(mapped);
  const int64_t before =
      RoundUp(reinterpret_cast<intptr_t>(begin), kHugePage) - reinterpret_cast<intptr_t>(begin);
  if (before > 0) munmap(begin, before);
  if (before < kHugePage) munmap(begin + before + size, kHugePage - before);
  madvise(begin + before, size, MADV_HUGEPAGE);  // only advice: failure changes nothing
  return Chunk(begin + before, Unmap{size});
}

std::byte* WeightArena::Allocate(int64_t num_bytes) {
  CHECK_GE(num_bytes, 0);
  const int64_t size = RoundUp(std::max<int64_t>(num_bytes, 1), kCacheLine);
  if (size > left_) {
    Chunk chunk = MapChunk(std::max(size, kChunkBytes));
    if (chunk == nullptr) return nullptr;
    next_ = chunk.get();
    left_ = chunk.get_deleter().size;
    chunks_.push_back(std::move(chunk));
  }
  left_ -= size;
  return std::exchange(next_, next_ + size);
}

}  // namespace krait::kernels
