#include "kernels/cpu/aligned_buffer.h"

#include <sys/mman.h>

#include <cstring>

namespace krait::kernels {
namespace {

constexpr int64_t kCacheLine = 64;
constexpr int64_t kHugePage = int64_t{2} << 20;

}  // namespace

AlignedBuffer AllocateAligned(int64_t num_bytes) {
  const int64_t alignment = num_bytes >= kHugePage ? kHugePage : kCacheLine;
  const int64_t size = (num_bytes + alignment - 1) / alignment * alignment;
  void* memory = std::aligned_alloc(alignment, size > 0 ? size : alignment);
  if (memory == nullptr) return nullptr;
  // Streaming weights through 4 KiB pages costs page walks. Only advice: failure changes nothing.
  if (alignment == kHugePage) madvise(memory, size, MADV_HUGEPAGE);
  std::memset(memory, 0, size);
  return AlignedBuffer(static_cast<std::byte*>(memory));
}

}  // namespace krait::kernels
