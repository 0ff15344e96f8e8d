#include "kernels/cpu/packed_weight.h"

#include <algorithm>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/logging.h"
#include "common/status_macros.h"
#include "kernels/core/bf16.h"

namespace krait::kernels {
namespace {

constexpr int64_t kSliceElements = int64_t{1} << 20;

}  // namespace

PackedWeight::PackedWeight(const LinearSource& source, int panel_width)
    : n_(source.n),
      k_(source.k),
      k_blocks_(source.k_blocks),
      dtype_(source.dtype),
      panel_width_(panel_width) {
  CHECK(n_ > 0 && k_ > 0) << n_ << " x " << k_;
  CHECK(k_blocks_ > 0 && k_ % k_blocks_ == 0) << k_ << " in " << k_blocks_ << " blocks";
  CHECK(dtype_ == DType::kF32 || dtype_ == DType::kBF16) << krait::Name(dtype_);
  CHECK_EQ(panel_width_ % 2, 0);
}

absl::StatusOr<std::unique_ptr<PackedWeight>> PackedWeight::Pack(const LinearSource& source,
                                                                 int panel_width,
                                                                 WeightArena& arena) {
  std::unique_ptr<PackedWeight> weight(new PackedWeight(source, panel_width));
  weight->data_ = arena.Allocate(weight->num_bytes());
  if (weight->data_ == nullptr) {
    return absl::ResourceExhaustedError(
        absl::StrCat("no memory for ", weight->num_bytes(), " bytes of weights"));
  }
  const int64_t slice_rows = std::max<int64_t>(1, kSliceElements / source.k);
  std::vector<float> slice(std::min(slice_rows, source.n) * source.k);
  for (int64_t begin = 0; begin < source.n; begin += slice_rows) {
    const int64_t end = std::min(begin + slice_rows, source.n);
    RETURN_IF_ERROR(source.read_rows(begin, end, slice.data()));
    for (int64_t row = begin; row < end; ++row) {
      weight->PackRow(row, slice.data() + (row - begin) * source.k);
    }
  }
  return weight;
}

void PackedWeight::PackRow(int64_t row, const float* weights) {
  const int64_t column = row % panel_width_, half = panel_width_ / 2;
  std::byte* panel = data_ + row / panel_width_ * panel_bytes();
  if (dtype_ == DType::kF32) {
    float* to = reinterpret_cast<float*>(panel) + column;
    for (int64_t k = 0; k < k_; ++k) to[k * panel_width_] = weights[k];
    return;
  }
  // Little-endian: the low half of a pair comes first.
  Bf16* to = reinterpret_cast<Bf16*>(panel) + 2 * (column % half) + column / half;
  for (int64_t k = 0; k < k_; ++k) to[k * panel_width_] = ToBf16(weights[k]);
}

}  // namespace krait::kernels
