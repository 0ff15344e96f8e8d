#pragma once

#include <algorithm>
#include <string>

#include "worker/cache/state_storage.h"

namespace krait::testing {

inline void AppendRingRows(const TensorView& ring, StateSlotId slot, int64_t begin, int64_t end,
                           std::string& bytes) {
  const int64_t length = ring.dim(1), width = ring.dim(2);
  for (int64_t position = std::max<int64_t>(0, begin); position < end; ++position) {
    bytes.append(reinterpret_cast<const char*>(ring.row<float>(slot) + position % length * width),
                 width * sizeof(float));
  }
}

// What `slot` holds of `num_tokens` tokens, all final, in the form that later tokens depend on: the
// state at the last fold, the ring from there on, and the last inputs of the convolutions.
inline std::string CanonicalState(const StateStorage& states, StateSlotId slot,
                                  int64_t num_tokens) {
  std::string bytes;
  for (size_t i = 0; i < states.spec().layers.size(); ++i) {
    const RecurrentLayerSpec& spec = states.spec().layers[i];
    const StateSlots slots = states.Layer(static_cast<int>(i));
    const int64_t folded =
        spec.fold_interval == 0 ? num_tokens : num_tokens / spec.fold_interval * spec.fold_interval;
    if (folded > 0) {
      bytes.append(reinterpret_cast<const char*>(slots.state.row<float>(slot)),
                   slots.state.dim(1) * sizeof(float));
    }
    AppendRingRows(slots.ring, slot, folded, num_tokens, bytes);
    AppendRingRows(slots.conv_ring, slot, num_tokens - 3, num_tokens, bytes);
  }
  return bytes;
}

}  // namespace krait::testing
