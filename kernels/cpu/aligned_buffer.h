#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>

namespace krait::kernels {

struct FreeDeleter {
  void operator()(void* memory) const { std::free(memory); }
};
using AlignedBuffer = std::unique_ptr<std::byte, FreeDeleter>;

// Zeroed, on its own huge-page-sized boundary if it is large, else on a cache line; null if there
// is no memory.
AlignedBuffer AllocateAligned(int64_t num_bytes);

}  // namespace krait::kernels
