#pragma once

// Instruction sets of the CPU backend. All of them give the same bits: the plain twin ("scalar")
// runs the same sums in the same order with std::fma.

#include <string_view>
#include <vector>

namespace krait::kernels {

enum class Target { kScalar, kAvx2, kAvx3 };

// "scalar", "avx2", "avx3" (AVX-512).
const char* Name(Target target);

// Those this machine can run, worst first; kScalar always.
std::vector<Target> SupportedTargets();

// Empty: the best supported. CHECK-fails on a name that is unknown or not supported here.
Target TargetFromName(std::string_view name);

}  // namespace krait::kernels

// The targets that files compiled by hwy/foreach_target.h are compiled for, besides the static one.
// Sums are eight lanes wide everywhere, so only products over many outputs gain from AVX-512; other
// files disable it before they include this.
#ifndef HWY_DISABLED_TARGETS
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SSE4 | HWY_AVX3 | HWY_AVX3_DL)
#endif

// KRAIT_PICK(target, Function): the variant of a function of namespace krait::kernels that was
// compiled for `target`, or for the next lower one; used after HWY_ONCE. A build whose static
// target is above the plain x86-64 has the static variant only.
#if defined(__x86_64__) && !defined(__AVX2__)
#define KRAIT_PICK(target, Function)                                              \
  ((target) == ::krait::kernels::Target::kScalar ? &HWY_STATIC_DISPATCH(Function) \
                                                 : &::krait::kernels::N_AVX2::Function)
#else
#define KRAIT_PICK(target, Function) (&HWY_STATIC_DISPATCH(Function))
#endif
