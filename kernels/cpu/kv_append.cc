#include <cstring>

#include "common/logging.h"
#include "kernels/cpu/cpu_ops.h"

namespace krait::kernels {
namespace {

void AppendToken(const TensorView& from, int64_t token, int64_t slot, const TensorView& cache) {
  const int64_t kv_heads = cache.dim(1), page_size = cache.dim(2), head_dim = cache.dim(3);
  const int64_t page = slot / page_size, offset = slot % page_size;
  for (int64_t head = 0; head < kv_heads; ++head) {
    float* to = cache.row<float>(page) + (head * page_size + offset) * head_dim;
    std::memcpy(to, from.row<float>(token) + head * head_dim, head_dim * sizeof(float));
  }
}

}  // namespace

void RunKvAppend(const CpuContext& context, const KvAppendParams& params) {
  CHECK(params.k.shape == params.v.shape) << params.k.shape.ToString();
  CHECK(params.k_cache.dtype == DType::kF32 && params.v_cache.dtype == DType::kF32);
  CHECK(params.k_cache.shape == params.v_cache.shape) << params.k_cache.shape.ToString();
  CHECK_EQ(params.k.dim(1), params.k_cache.dim(1));
  CHECK_EQ(params.k.dim(2), params.k_cache.dim(3));
  const int64_t num_slots = params.k_cache.dim(0) * params.k_cache.dim(2);
  for (int64_t t = 0; t < params.k.dim(0); ++t) {
    if (params.slots[t] < 0) continue;
    CHECK_LT(params.slots[t], num_slots);
    AppendToken(params.k, t, params.slots[t], params.k_cache);
    AppendToken(params.v, t, params.slots[t], params.v_cache);
  }
}

}  // namespace krait::kernels
