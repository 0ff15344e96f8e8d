#include "kernels/cpu/target.h"

#include "common/logging.h"
#include "hwy/targets.h"

namespace krait::kernels {

const char* Name(Target target) {
  switch (target) {
    case Target::kScalar:
      return "scalar";
    case Target::kAvx2:
      return "avx2";
    case Target::kAvx3:
      return "avx3";
  }
  return "?";
}

std::vector<Target> SupportedTargets() {
  std::vector<Target> targets = {Target::kScalar};
#if defined(__x86_64__) && !defined(__AVX2__)
  const int64_t supported = hwy::SupportedTargets();
  if (supported & HWY_AVX2) targets.push_back(Target::kAvx2);
  if (supported & HWY_AVX3) targets.push_back(Target::kAvx3);
#endif
  return targets;
}

Target TargetFromName(std::string_view name) {
  const std::vector<Target> targets = SupportedTargets();
  if (name.empty()) return targets.back();
  for (Target target : targets) {
    if (name == Name(target)) return target;
  }
  CHECK(false) << "instruction set \"" << name << "\" is unknown or not supported by this machine";
  return Target::kScalar;
}

}  // namespace krait::kernels
