#pragma once

// From a checkpoint to what a backend prepares: one rank's rows and columns of one or several
// matrices, in the precision of the run.

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/core/dtype.h"
#include "kernels/ops/linear.h"
#include "worker/weights/checkpoint.h"

namespace krait {

// Rows [row_begin, row_end) and columns [col_begin, col_end) of the matrix `name`, which must be
// [num_rows, num_cols] in the file.
struct WeightSlice {
  std::string name;
  int64_t num_rows = 0;
  int64_t num_cols = 0;
  int64_t row_begin = 0;
  int64_t row_end = 0;
  int64_t col_begin = 0;
  int64_t col_end = 0;

  // The whole matrix, some of its rows, or some of its columns.
  static WeightSlice All(std::string name, int64_t num_rows, int64_t num_cols);
  static WeightSlice Rows(std::string name, int64_t num_rows, int64_t num_cols, int64_t begin,
                          int64_t end);
  static WeightSlice Columns(std::string name, int64_t num_rows, int64_t num_cols, int64_t begin,
                             int64_t end);
};

// Rounds `count` numbers to `dtype` (kF32, kBF16), in place.
void RoundTo(DType dtype, float* values, int64_t count);

// The slices stacked by rows (q over k over v, gate over up), all with as many columns. The source
// reads from `checkpoint`, which must outlive it; values are rounded to `dtype` (kF32, kBF16).
// INVALID_ARGUMENT or NOT_FOUND as Checkpoint::Expect, before anything is read.
absl::StatusOr<LinearSource> MakeLinearSource(const Checkpoint& checkpoint,
                                              std::vector<WeightSlice> slices, int64_t k_blocks,
                                              DType dtype);

// A slice as f32 values rounded to `dtype`: embedding tables.
absl::StatusOr<std::vector<float>> LoadMatrix(const Checkpoint& checkpoint,
                                              const WeightSlice& slice, DType dtype);

// Elements [begin, end) of the vector `name` of `size` numbers, rounded to `dtype`: norm weights.
absl::StatusOr<std::vector<float>> LoadVector(const Checkpoint& checkpoint, const std::string& name,
                                              int64_t size, int64_t begin, int64_t end,
                                              DType dtype);

}  // namespace krait
