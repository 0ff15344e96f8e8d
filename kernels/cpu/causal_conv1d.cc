// out[t, c] = silu(bias[c] + sum_j weight[j, c] x[t - taps + 1 + j, c]): lanes along channels, one
// chain over j. A task has a range of channels for all tokens of a sequence, reads what the ring
// holds of earlier ones and only then writes the new ones into it.

#include <algorithm>

#include "common/logging.h"
#include "kernels/cpu/conv_taps.h"
#include "kernels/cpu/cpu_ops.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/causal_conv1d.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/cpu/target.h"
#include "kernels/cpu/vec8-inl.h"
// After vec8-inl.h.
#include "kernels/cpu/conv_taps-inl.h"

HWY_BEFORE_NAMESPACE();
namespace krait::kernels {
namespace HWY_NAMESPACE {

void ConvolveChannels(const ConvTaps& taps, const ConvWeight& weight, int64_t begin, int64_t end,
                      float* out) {
  for (int64_t c = begin; c < end; c += kLanes) {
    Store(ConvolveLanes(taps, weight, c, c), out + c);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace krait::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace krait::kernels {
namespace {

constexpr int64_t kChannelsPerTask = 256;

void CheckShapes(const CausalConv1dParams& params) {
  const int64_t channels = params.x.dim(1), taps = params.weight.dim(0);
  CHECK_EQ(channels % 8, 0);
  CHECK(taps >= 1 && taps <= kMaxConvTaps) << taps;
  CHECK_EQ(params.weight.dim(1), channels);
  CHECK_EQ(params.bias.dim(0), channels);
  CHECK_EQ(params.ring.dim(2), channels);
  CHECK_GE(params.ring.dim(1), taps - 1);
  CHECK(params.out.shape == params.x.shape) << params.out.shape.ToString();
  CheckRecurrentBatch(params.batch, params.x.dim(0), params.ring.dim(0));
}

void WriteRing(const RecurrentSequence& sequence, const CausalConv1dParams& params,
               const RingRows& ring, int64_t begin, int64_t end) {
  for (int64_t i = FirstKept(sequence, ring); i < sequence.num_tokens; ++i) {
    const float* x = params.x.row<float>(sequence.first_row + i);
    std::copy(x + begin, x + end, ring[sequence.position(i)] + begin);
  }
}

void CountTraffic(const CausalConv1dParams& params) {
  const int64_t row_bytes = params.x.dim(1) * 4, taps = params.weight.dim(0);
  for (int64_t s = 0; s < params.batch.num_sequences; ++s) {
    const RecurrentSequence sequence(params.batch, s);
    params.traffic->conv_read += std::min(taps - 1, sequence.first_position) * row_bytes;
    params.traffic->conv_written += std::min(sequence.num_tokens, params.ring.dim(1)) * row_bytes;
  }
}

}  // namespace

void RunCausalConv1d(const CpuContext& context, const CausalConv1dParams& params) {
  CheckShapes(params);
  const ConvWeight weight = {.taps = params.weight.ptr<float>(),
                             .bias = params.bias.ptr<float>(),
                             .channels = params.x.dim(1),
                             .num_taps = static_cast<int>(params.weight.dim(0))};
  const auto convolve = KRAIT_PICK(context.target, ConvolveChannels);
  const int64_t pieces = (weight.channels + kChannelsPerTask - 1) / kChannelsPerTask;
  // 16: about what an exponential and a division cost in elements passed over.
  ForRows(context, params.batch.num_sequences * pieces,
          16 * params.x.dim(0) * kChannelsPerTask / std::max(1, params.batch.num_sequences),
          [&](int64_t first, int64_t last) {
            for (int64_t task = first; task < last; ++task) {
              const RecurrentSequence sequence(params.batch, task / pieces);
              const RingRows ring(params.ring, sequence.slot);
              const int64_t begin = task % pieces * kChannelsPerTask;
              const int64_t end = std::min(begin + kChannelsPerTask, weight.channels);
              ConvTaps taps;
              for (int64_t i = 0; i < sequence.num_tokens; ++i) {
                taps.Locate(sequence, params.x, ring, weight.num_taps, i);
                convolve(taps, weight, begin, end, params.out.row<float>(sequence.first_row + i));
              }
              WriteRing(sequence, params, ring, begin, end);
            }
          });
  if (params.traffic != nullptr) CountTraffic(params);
}

}  // namespace krait::kernels
#endif  // HWY_ONCE
