#pragma once

#include <memory>
#include <utility>

#include "absl/status/statusor.h"
#include "kernels/cpu/weight_arena.h"
#include "kernels/ops/linear.h"

namespace krait::kernels {

// W [n, k] cut into panels of `panel_width` outputs, the last one filled up with zeros. A panel
// holds its outputs' weights side by side for each k in turn, so that vector lanes run along
// outputs and memory is read once, forwards:
//
//   f32   panel[k][j] = W[first + j, k]
//   bf16  panel[k][j] = W[first + j, k] | W[first + j + width/2, k] << 16    for j < width/2
//
// One 32-bit load of a bf16 pair gives two floats by a shift and a mask.
class PackedWeight final : public LinearWeight {
 public:
  // Reads `source` in slices of a few MB. RESOURCE_EXHAUSTED names the bytes; else the errors of
  // source.read_rows. `panel_width` is even; `arena` outlives every use of the weight.
  static absl::StatusOr<std::unique_ptr<PackedWeight>> Pack(const LinearSource& source,
                                                            int panel_width, WeightArena& arena);

  int64_t n() const override { return n_; }
  int64_t k() const override { return k_; }
  int64_t k_blocks() const override { return k_blocks_; }
  int64_t num_bytes() const override { return num_panels() * panel_bytes(); }

  DType dtype() const { return dtype_; }
  int panel_width() const { return panel_width_; }
  int64_t num_panels() const { return (n_ + panel_width_ - 1) / panel_width_; }
  int64_t panel_bytes() const { return k_ * panel_width_ * ByteSize(dtype_); }
  const std::byte* panel(int64_t index) const { return data_ + index * panel_bytes(); }

 private:
  PackedWeight(const LinearSource& source, int panel_width);
  void PackRow(int64_t row, const float* weights);

  const int64_t n_;
  const int64_t k_;
  const int64_t k_blocks_;
  const DType dtype_;
  const int panel_width_;
  std::byte* data_ = nullptr;  // borrowed from the arena
};

}  // namespace krait::kernels
