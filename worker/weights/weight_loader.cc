#include "worker/weights/weight_loader.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "common/logging.h"
#include "common/status_macros.h"
#include "kernels/core/bf16.h"

namespace krait {

void RoundTo(DType dtype, float* values, int64_t count) {
  if (dtype == DType::kF32) return;
  CHECK(dtype == DType::kBF16) << "weights are kept as f32 or bf16, not " << Name(dtype);
  for (int64_t i = 0; i < count; ++i) values[i] = FromBf16(ToBf16(values[i]));
}

namespace {

int64_t RowsOf(const WeightSlice& slice) { return slice.row_end - slice.row_begin; }
int64_t ColumnsOf(const WeightSlice& slice) { return slice.col_end - slice.col_begin; }

absl::Status ReadPart(const Checkpoint& checkpoint, const WeightSlice& slice, int64_t begin,
                      int64_t end, DType dtype, float* out) {
  RETURN_IF_ERROR(checkpoint.ReadSlice(slice.name, slice.row_begin + begin, slice.row_begin + end,
                                       slice.col_begin, slice.col_end, out));
  RoundTo(dtype, out, (end - begin) * ColumnsOf(slice));
  return absl::OkStatus();
}

// Rows [begin, end) of the stack.
absl::Status ReadStacked(const Checkpoint& checkpoint, const std::vector<WeightSlice>& slices,
                         int64_t begin, int64_t end, DType dtype, float* out) {
  int64_t first = 0;  // the slice's first row in the stack
  for (const WeightSlice& slice : slices) {
    const int64_t from = std::max<int64_t>(begin - first, 0);
    const int64_t to = std::min(end - first, RowsOf(slice));
    if (from < to) {
      RETURN_IF_ERROR(ReadPart(checkpoint, slice, from, to, dtype, out));
      out += (to - from) * ColumnsOf(slice);
    }
    first += RowsOf(slice);
  }
  return absl::OkStatus();
}

absl::Status CheckSlice(const Checkpoint& checkpoint, const WeightSlice& slice) {
  CHECK(0 <= slice.row_begin && slice.row_begin <= slice.row_end &&
        slice.row_end <= slice.num_rows && 0 <= slice.col_begin &&
        slice.col_begin <= slice.col_end && slice.col_end <= slice.num_cols)
      << slice.name;
  return checkpoint.Expect(slice.name, {slice.num_rows, slice.num_cols});
}

}  // namespace

WeightSlice WeightSlice::All(std::string name, int64_t num_rows, int64_t num_cols) {
  return {std::move(name), num_rows, num_cols, 0, num_rows, 0, num_cols};
}

WeightSlice WeightSlice::Rows(std::string name, int64_t num_rows, int64_t num_cols, int64_t begin,
                              int64_t end) {
  return {std::move(name), num_rows, num_cols, begin, end, 0, num_cols};
}

WeightSlice WeightSlice::Columns(std::string name, int64_t num_rows, int64_t num_cols,
                                 int64_t begin, int64_t end) {
  return {std::move(name), num_rows, num_cols, 0, num_rows, begin, end};
}

absl::StatusOr<LinearSource> MakeLinearSource(const Checkpoint& checkpoint,
                                              std::vector<WeightSlice> slices, int64_t k_blocks,
                                              DType dtype) {
  CHECK(!slices.empty());
  LinearSource source;
  source.k = ColumnsOf(slices.front());
  source.k_blocks = k_blocks;
  source.dtype = dtype;
  for (const WeightSlice& slice : slices) {
    RETURN_IF_ERROR(CheckSlice(checkpoint, slice));
    CHECK_EQ(ColumnsOf(slice), source.k) << slice.name;
    source.n += RowsOf(slice);
  }
  source.read_rows = [&checkpoint, slices = std::move(slices), dtype](int64_t begin, int64_t end,
                                                                      float* out) {
    return ReadStacked(checkpoint, slices, begin, end, dtype, out);
  };
  return source;
}

absl::StatusOr<std::vector<float>> LoadMatrix(const Checkpoint& checkpoint,
                                              const WeightSlice& slice, DType dtype) {
  RETURN_IF_ERROR(CheckSlice(checkpoint, slice));
  std::vector<float> values(RowsOf(slice) * ColumnsOf(slice));
  RETURN_IF_ERROR(ReadPart(checkpoint, slice, 0, RowsOf(slice), dtype, values.data()));
  return values;
}

absl::StatusOr<std::vector<float>> LoadVector(const Checkpoint& checkpoint, const std::string& name,
                                              int64_t size, int64_t begin, int64_t end,
                                              DType dtype) {
  RETURN_IF_ERROR(checkpoint.Expect(name, {size}));
  std::vector<float> values(end - begin);
  RETURN_IF_ERROR(checkpoint.ReadRows(name, begin, end, values.data()));
  RoundTo(dtype, values.data(), end - begin);
  return values;
}

}  // namespace krait
