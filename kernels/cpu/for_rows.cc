#include "kernels/cpu/cpu_ops.h"

namespace krait::kernels {

// Waking a blocked thread takes some 10 us here, in which one thread passes over about this many
// elements.
constexpr int64_t kMinElementsToShare = 32768;

void ForRows(const CpuContext& context, int64_t num_rows, int64_t row_elements,
             absl::FunctionRef<void(int64_t, int64_t)> body) {
  if (num_rows * row_elements < kMinElementsToShare || num_rows == 1) return body(0, num_rows);
  const int threads = context.pool->num_threads();
  context.pool->Run([&](int thread) {
    const auto [begin, end] = Share(num_rows, thread, threads);
    if (begin < end) body(begin, end);
  });
}

}  // namespace krait::kernels
