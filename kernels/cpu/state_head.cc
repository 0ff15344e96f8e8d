// What is computed of one head. Its state [N, P] is read as rows of P lanes, so that every element
// of S C_t is one chain over n.

#include "kernels/cpu/state_head.h"

#include <algorithm>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/state_head.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/cpu/target.h"
#include "kernels/cpu/vec8-inl.h"
// After vec8-inl.h.
#include "kernels/cpu/state_products-inl.h"

HWY_BEFORE_NAMESPACE();
namespace krait::kernels {
namespace HWY_NAMESPACE {

void DiscretizeSteps(float* dt, int64_t n, float bias) {
  for (int64_t i = 0; i < n; i += kLanes) {
    Store(Softplus(Add(Load(dt + i), SetF32(bias))), dt + i);
  }
}

void AppendInput(const StateInput& input, float l, StateInputs& inputs) {
  for (int i = 0; i <= inputs.count; i += kLanes) {
    Store(Add(Load(inputs.decay + i), SetF32(l)), inputs.decay + i);
  }
  inputs.input[inputs.count++] = input;
  for (int i = inputs.count; i % kLanes != 0 || i == inputs.count; ++i) inputs.decay[i] = 0;
}

// dots[u] = B_u . C for all inputs, eight sums side by side; room for whole vectors of eight.
void InputProducts(const StateInputs& inputs, const float* c, int64_t n, float* dots) {
  for (int first = 0; first < inputs.count; first += kLanes) {
    const float* b[kLanes];
    F32 sums[kLanes];
    for (int k = 0; k < kLanes; ++k) {
      b[k] = inputs.input[std::min(first + k, inputs.count - 1)].b;
      sums[k] = SetF32(0.0f);
    }
    for (int64_t i = 0; i < n; i += kLanes) {
      const F32 factor = Load(c + i);
#pragma GCC unroll 8
      for (int k = 0; k < kLanes; ++k) sums[k] = Fma(Load(b[k] + i), factor, sums[k]);
    }
    Store(SumLanesOfEach(sums), dots + first);
  }
}

// e^decay of all, as many as inputs + 1.
HWY_INLINE void Factors(const StateInputs& inputs, float* factors) {
  for (int i = 0; i <= inputs.count; i += kLanes) Store(Exp(Load(inputs.decay + i)), factors + i);
}

// y[p] for kVectors vectors of p, side by side like ProductLanes.
template <int kVectors>
HWY_INLINE void OutputLanes(const float* product, const StateInputs& inputs, const float* weights,
                            float d, int64_t p, float* y) {
  F32 acc[kVectors];
#pragma GCC unroll 8
  for (int i = 0; i < kVectors; ++i) {
    acc[i] =
        product == nullptr ? SetF32(0.0f) : Mul(SetF32(weights[0]), Load(product + p + i * kLanes));
  }
  for (int u = 0; u < inputs.count; ++u) {
    const float* x = inputs.input[u].x + p;
    const F32 weight = SetF32(weights[1 + u]);
#pragma GCC unroll 8
    for (int i = 0; i < kVectors; ++i) acc[i] = Fma(weight, Load(x + i * kLanes), acc[i]);
  }
  const float* own = inputs.input[inputs.count - 1].x + p;
#pragma GCC unroll 8
  for (int i = 0; i < kVectors; ++i) {
    Store(Fma(SetF32(d), Load(own + i * kLanes), acc[i]), y + p + i * kLanes);
  }
}

void HeadOutput(const HeadShape& shape, const float* product, const StateInputs& inputs,
                const float* c, float d, float* y) {
  float weights[kMaxFoldInterval + 8], dots[kMaxFoldInterval + 8];
  Factors(inputs, weights);
  InputProducts(inputs, c, shape.state_dim, dots);
  for (int u = 0; u < inputs.count; ++u) {
    weights[1 + u] = weights[1 + u] * inputs.input[u].dt * dots[u];
  }
  int64_t p = 0;
  for (; p + 8 * kLanes <= shape.head_dim; p += 8 * kLanes) {
    OutputLanes<8>(product, inputs, weights, d, p, y);
  }
  for (; p < shape.head_dim; p += kLanes) OutputLanes<1>(product, inputs, weights, d, p, y);
}

template <int kVectors>
HWY_INLINE void FoldLanes(const StateInputs& inputs, const float* weights, const float* from,
                          float decay, int64_t n, int64_t p, float* to) {
  F32 acc[kVectors];
#pragma GCC unroll 8
  for (int i = 0; i < kVectors; ++i) {
    acc[i] = from == nullptr ? SetF32(0.0f) : Mul(SetF32(decay), Load(from + p + i * kLanes));
  }
  for (int u = 0; u < inputs.count; ++u) {
    const F32 weight = SetF32(weights[u] * inputs.input[u].b[n]);
    const float* x = inputs.input[u].x + p;
#pragma GCC unroll 8
    for (int i = 0; i < kVectors; ++i) acc[i] = Fma(weight, Load(x + i * kLanes), acc[i]);
  }
#pragma GCC unroll 8
  for (int i = 0; i < kVectors; ++i) Store(acc[i], to + p + i * kLanes);
}

void FoldState(const HeadShape& shape, const float* from, const StateInputs& inputs, float* to) {
  float factors[kMaxFoldInterval + 8];
  Factors(inputs, factors);
  float weights[kMaxFoldInterval];
  for (int u = 0; u < inputs.count; ++u) weights[u] = factors[1 + u] * inputs.input[u].dt;
  for (int64_t n = 0; n < shape.state_dim; ++n) {
    const float* row = from == nullptr ? nullptr : from + n * shape.head_dim;
    float* out = to + n * shape.head_dim;
    int64_t p = 0;
    for (; p + 8 * kLanes <= shape.head_dim; p += 8 * kLanes) {
      FoldLanes<8>(inputs, weights, row, factors[0], n, p, out);
    }
    for (; p < shape.head_dim; p += kLanes) {
      FoldLanes<1>(inputs, weights, row, factors[0], n, p, out);
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace krait::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace krait::kernels {

HeadFunctions HeadFunctionsFor(Target target) {
  return {KRAIT_PICK(target, DiscretizeSteps), KRAIT_PICK(target, AppendInput),
          KRAIT_PICK(target, StateProducts), KRAIT_PICK(target, HeadOutput),
          KRAIT_PICK(target, FoldState)};
}

}  // namespace krait::kernels
#endif  // HWY_ONCE
