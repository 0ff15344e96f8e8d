// The inputs of a causal convolution and its sum, for eight channels at a time. Include after
// vec8-inl.h in a file compiled by hwy/foreach_target.h.

#if defined(KRAIT_KERNELS_CPU_CONV_TAPS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef KRAIT_KERNELS_CPU_CONV_TAPS_INL_H_
#undef KRAIT_KERNELS_CPU_CONV_TAPS_INL_H_
#else
#define KRAIT_KERNELS_CPU_CONV_TAPS_INL_H_
#endif

#include "kernels/cpu/conv_taps.h"

HWY_BEFORE_NAMESPACE();
namespace krait::kernels {
namespace HWY_NAMESPACE {

// silu(bias + sum of weight[j] in[j]), oldest input first. `in` is the first of the inputs' eight
// channels, `out` that of weight and bias: they differ where channels are repeated.
HWY_INLINE F32 ConvolveLanes(const ConvTaps& taps, const ConvWeight& weight, int64_t in,
                             int64_t out) {
  F32 sum = Load(weight.bias + out);
  for (int j = 0; j < weight.num_taps; ++j) {
    if (taps.row[j] == nullptr) continue;  // before position 0
    sum = Fma(Load(weight.taps + j * weight.channels + out), Load(taps.row[j] + in), sum);
  }
  return Silu(sum);
}

}  // namespace HWY_NAMESPACE
}  // namespace krait::kernels
HWY_AFTER_NAMESPACE();

#endif
