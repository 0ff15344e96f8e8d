#include <algorithm>
#include <cstring>

#include "common/logging.h"
#include "kernels/core/bf16.h"
#include "kernels/cpu/cpu_ops.h"

namespace krait::kernels {
namespace {

void CopyRow(const TensorView& table, int64_t row, float* out) {
  const int64_t hidden = table.dim(1);
  if (table.dtype == DType::kF32) {
    std::memcpy(out, table.row<float>(row), hidden * sizeof(float));
  } else {
    std::transform(table.row<Bf16>(row), table.row<Bf16>(row) + hidden, out, FromBf16);
  }
}

int32_t IdOf(const EmbeddingParams& params, int64_t t) {
  const int32_t source = params.sources == nullptr ? -1 : params.sources[t];
  return source < 0 ? params.ids[t] : params.drawn[source];
}

}  // namespace

void RunEmbedding(const CpuContext& context, const EmbeddingParams& params) {
  const int64_t hidden = params.table.dim(1);
  CHECK(params.table.dtype == DType::kF32 || params.table.dtype == DType::kBF16);
  CHECK(params.out.dtype == DType::kF32);
  CHECK_EQ(params.out.dim(1), hidden);
  for (int64_t t = 0; t < params.out.dim(0); ++t) {
    const int64_t row = int64_t{IdOf(params, t)} - params.first_id;
    float* out = params.out.row<float>(t);
    if (row >= 0 && row < params.table.dim(0)) {
      CopyRow(params.table, row, out);
    } else {
      std::fill(out, out + hidden, -0.0f);
    }
  }
}

}  // namespace krait::kernels
