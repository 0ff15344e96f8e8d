#include "worker/layers/mamba_weights.h"

#include <cmath>

#include "common/status_macros.h"
#include "worker/weights/weight_loader.h"

namespace krait {

absl::StatusOr<Tensor> Upload(const std::vector<float>& values, Shape shape, Backend* backend) {
  CHECK_EQ(shape.num_elements(), static_cast<int64_t>(values.size()));
  ASSIGN_OR_RETURN(Tensor tensor, backend->Allocate(DType::kF32, shape));
  backend->CopyFromHost(values.data(), tensor.view());
  return tensor;
}

absl::StatusOr<Tensor> LoadRanges(const Checkpoint& checkpoint, const std::string& name,
                                  int64_t size, absl::Span<const Range> ranges, bool rounded,
                                  const RankContext& context) {
  std::vector<float> values;
  for (const Range& range : ranges) {
    ASSIGN_OR_RETURN(const std::vector<float> part,
                     LoadVector(checkpoint, name, size, range.begin, range.end,
                                rounded ? context.weight_dtype : DType::kF32));
    values.insert(values.end(), part.begin(), part.end());
  }
  const int64_t count = static_cast<int64_t>(values.size());
  return Upload(values, {count}, context.backend);
}

namespace {

// As [taps, own channels].
absl::StatusOr<Tensor> LoadConvWeight(const Checkpoint& checkpoint, const std::string& name,
                                      int64_t channels, int64_t taps,
                                      absl::Span<const Range> ranges, const RankContext& context) {
  RETURN_IF_ERROR(checkpoint.Expect(name, {channels, 1, taps}));
  std::vector<float> rows;  // [own channels, taps]
  for (const Range& range : ranges) {
    std::vector<float> part(range.size() * taps);
    RETURN_IF_ERROR(checkpoint.ReadRows(name, range.begin, range.end, part.data()));
    rows.insert(rows.end(), part.begin(), part.end());
  }
  RoundTo(context.weight_dtype, rows.data(), static_cast<int64_t>(rows.size()));
  const int64_t own = static_cast<int64_t>(rows.size()) / taps;
  std::vector<float> transposed(rows.size());
  for (int64_t channel = 0; channel < own; ++channel) {
    for (int64_t tap = 0; tap < taps; ++tap) {
      transposed[tap * own + channel] = rows[channel * taps + tap];
    }
  }
  return Upload(transposed, {taps, own}, context.backend);
}

}  // namespace

absl::StatusOr<ConvTensors> LoadConvolution(const Checkpoint& checkpoint, const std::string& prefix,
                                            int64_t channels, int64_t taps,
                                            absl::Span<const Range> ranges,
                                            const RankContext& context) {
  ConvTensors conv;
  ASSIGN_OR_RETURN(conv.weight, LoadConvWeight(checkpoint, prefix + "conv1d.weight", channels, taps,
                                               ranges, context));
  ASSIGN_OR_RETURN(conv.bias, LoadRanges(checkpoint, prefix + "conv1d.bias", channels, ranges,
                                         /*rounded=*/true, context));
  return conv;
}

absl::StatusOr<RowParallelLinear> LoadMambaOutput(const Checkpoint& checkpoint,
                                                  const std::string& prefix, const MambaDims& dims,
                                                  const RankContext& context) {
  const BlockCut cut{.num_blocks = dims.num_units,
                     .block_size = dims.inner_size / dims.num_units,
                     .own = MambaShard(dims, context.sharding).units};
  return RowParallelLinear::Load(checkpoint, {.weight = prefix + "out_proj.weight"},
                                 dims.hidden_size, cut, context);
}

absl::StatusOr<std::vector<float>> LoadNegativeExp(const Checkpoint& checkpoint,
                                                   const std::string& name,
                                                   absl::Span<const int64_t> shape, Range rows) {
  RETURN_IF_ERROR(checkpoint.Expect(name, shape));
  const int64_t row_size = shape.size() == 1 ? 1 : shape[1];
  std::vector<float> values(rows.size() * row_size);
  RETURN_IF_ERROR(checkpoint.ReadRows(name, rows.begin, rows.end, values.data()));
  for (float& value : values) value = static_cast<float>(-std::exp(double{value}));
  return values;
}

}  // namespace krait
