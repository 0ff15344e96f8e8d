#pragma once

// Ranges of a model's dimensions, and errors that name file, field and limit.

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "kernels/ops/paged_attention.h"

namespace krait {

struct IntRange {
  int64_t min;
  int64_t max;
};

// Products of any three of these fit 63 bits with room to spare.
inline constexpr IntRange kHiddenRange = {1, 1 << 16};
inline constexpr IntRange kLayersRange = {1, 512};
inline constexpr IntRange kHeadsRange = {1, 1024};
inline constexpr IntRange kHeadDimRange = {kAttentionHeadDimUnit, kMaxAttentionHeadDim};
inline constexpr IntRange kIntermediateRange = {1, 1 << 18};
inline constexpr IntRange kVocabRange = {1, 1 << 21};
inline constexpr IntRange kContextRange = {1, 1 << 24};

struct FloatRange {
  double min;
  double max;
};
inline constexpr FloatRange kRopeThetaRange = {1, 1e12};
inline constexpr FloatRange kRopeFactorRange = {1, 1e6};  // of RoPE scaling
inline constexpr FloatRange kRopeDivisorRange = {1e-6, 1e6};

// INVALID_ARGUMENT "<file>: <field>: <reason>".
absl::Status BadField(const std::string& file, const std::string& field, const std::string& reason);

// INVALID_ARGUMENT if `value` is outside the range or, for floats, NaN.
absl::Status CheckRange(const std::string& file, const std::string& field, int64_t value,
                        IntRange range);
absl::Status CheckRange(const std::string& file, const std::string& field, double value,
                        FloatRange range);

}  // namespace krait
