#include "kernels/cpu/scan_group.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/scan_group.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/cpu/target.h"
#include "kernels/cpu/vec8-inl.h"
// After vec8-inl.h.
#include "kernels/cpu/conv_taps-inl.h"

HWY_BEFORE_NAMESPACE();
namespace krait::kernels {
namespace HWY_NAMESPACE {

// The state [N, N] has channels innermost, which are the lanes.
void AdvanceGroup(const ScanGroup& group, const ScanToken& token, float* h, float* y) {
  for (int64_t p = 0; p < group.size; p += kLanes) {
    const int64_t channel = group.first_channel + p;
    const F32 x = ConvolveLanes(token.taps, group.conv, group.first_input + p, channel);
    const F32 delta = Softplus(Add(Load(token.dt + channel), Load(group.dt_bias + channel)));
    const F32 input = Mul(delta, x);
    F32 sum = SetF32(0.0f);
    for (int64_t n = 0; n < group.size; ++n) {
      float* state = h + n * group.size + p;
      const F32 decay = Exp(Mul(delta, Load(group.a + n * group.size + p)));
      const F32 next = Fma(input, SetF32(token.b[n]), Mul(decay, Load(state)));
      Store(next, state);
      if (y != nullptr) sum = Fma(next, SetF32(token.c[n]), sum);
    }
    if (y == nullptr) continue;
    const F32 gate = Silu(Load(token.z + channel));
    Store(Mul(Fma(Load(group.d + channel), x, sum), gate), y + channel);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace krait::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace krait::kernels {

AdvanceFunction AdvanceFunctionFor(Target target) { return KRAIT_PICK(target, AdvanceGroup); }

}  // namespace krait::kernels
#endif  // HWY_ONCE
