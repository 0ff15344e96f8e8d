#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "worker/layers/linear.h"
#include "worker/layers/mamba_dims.h"
#include "worker/layers/rank_context.h"
#include "worker/weights/checkpoint.h"

namespace krait {

// The small tensors of a Mamba layer, from a checkpoint to a rank's backend. All errors name the
// tensor; RESOURCE_EXHAUSTED the bytes. Rank thread only.

// Elements `ranges` of the vector `name` of `size` numbers, one after the other. `rounded`: to the
// precision of the weights; recurrence parameters are kept as they are.
absl::StatusOr<Tensor> LoadRanges(const Checkpoint& checkpoint, const std::string& name,
                                  int64_t size, absl::Span<const Range> ranges, bool rounded,
                                  const RankContext& context);

// A depthwise convolution as the ops take it.
struct ConvTensors {
  Tensor weight;  // [taps, own channels]
  Tensor bias;    // [own channels]

  int64_t num_bytes() const { return weight.num_bytes() + bias.num_bytes(); }
};

// "<prefix>conv1d.weight" [channels, 1, taps] and "<prefix>conv1d.bias": channels `ranges`.
absl::StatusOr<ConvTensors> LoadConvolution(const Checkpoint& checkpoint, const std::string& prefix,
                                            int64_t channels, int64_t taps,
                                            absl::Span<const Range> ranges,
                                            const RankContext& context);

// "<prefix>out_proj.weight", each KV group one block of its sum.
absl::StatusOr<RowParallelLinear> LoadMambaOutput(const Checkpoint& checkpoint,
                                                  const std::string& prefix, const MambaDims& dims,
                                                  const RankContext& context);

// -e^x of the tensor `name` of `shape`, rows [rows.begin, rows.end), as the file has them.
absl::StatusOr<std::vector<float>> LoadNegativeExp(const Checkpoint& checkpoint,
                                                   const std::string& name,
                                                   absl::Span<const int64_t> shape, Range rows);

// `values` on the rank's device.
absl::StatusOr<Tensor> Upload(const std::vector<float>& values, Shape shape, Backend* backend);

}  // namespace krait
