#pragma once

// The 8 B model whose decoding steps are measured, and what one step of it moves.

#include <cstdint>

#include "kernels/core/dtype.h"

namespace krait::kernels {

inline constexpr int64_t kHidden = 4096, kInner = 14336, kVocab = 128256;
inline constexpr int64_t kHeads = 32, kKvHeads = 8, kHeadDim = 128, kStateDim = 128;
inline constexpr int64_t kXbSize = 1024, kXbcSize = kHidden + 2 * kXbSize, kConvTaps = 4;
inline constexpr int64_t kQkvWidth = (kHeads + 2 * kKvHeads) * kHeadDim;
inline constexpr int64_t kInWidth = kHidden + kXbcSize + kHeads;
inline constexpr int64_t kRingWidth = 2 * kXbSize + kHeads;
inline constexpr int kLayers = 32, kFoldInterval = 32, kHeldInputs = 15;  // half a ring on average
inline constexpr DType kCacheType = DType::kBF16;

enum class Kind { kLlama, kHybrid };

struct StepCase {
  Kind kind;
  int64_t rows;     // new tokens of one sequence
  int64_t context;  // keys that the last of them sees

  bool IsMamba(int layer) const { return kind == Kind::kHybrid && layer % 2 == 0; }

  int64_t KvBytes() const {
    const int64_t layers = kind == Kind::kHybrid ? kLayers / 2 : kLayers;
    return layers * 2 * context * kKvHeads * kHeadDim * ByteSize(kCacheType);
  }
  int64_t StateBytes() const {
    if (kind == Kind::kLlama) return 0;
    return kLayers / 2 * 4 * (kHeads * kStateDim * kStateDim + kRingWidth * (kHeldInputs + rows));
  }
};

}  // namespace krait::kernels
