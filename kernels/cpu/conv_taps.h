#pragma once

#include "kernels/cpu/recurrent_sequence.h"
#include "kernels/ops/causal_conv1d.h"

namespace krait::kernels {

struct ConvWeight {
  const float* taps = nullptr;  // [num_taps, channels]
  const float* bias = nullptr;  // [channels]
  int64_t channels = 0;
  int num_taps = 0;
};

// The inputs that one output needs, oldest first; null: before position 0.
struct ConvTaps {
  const float* row[kMaxConvTaps];

  // Of new token `token`: its ancestors among the new tokens, then committed ones from the ring.
  void Locate(const RecurrentSequence& sequence, const TensorView& x, const RingRows& ring,
              int num_taps, int64_t token) {
    int64_t position = sequence.first_position - 1;  // of the last committed token
    for (int j = num_taps - 1; j >= 0; --j) {
      if (token >= 0) {
        row[j] = x.row<float>(sequence.first_row + token);
        token = sequence.Parent(token);
      } else {
        row[j] = position < 0 ? nullptr : ring[position];
        --position;
      }
    }
  }

  // Of a committed token, all from the ring.
  void LocateCommitted(const RingRows& ring, int num_taps, int64_t position) {
    for (int j = num_taps - 1; j >= 0; --j, --position) {
      row[j] = position < 0 ? nullptr : ring[position];
    }
  }
};

// The first new token whose entry a ring has to keep: those before it would be overwritten by later
// ones of the same call.
inline int64_t FirstKept(const RecurrentSequence& sequence, const RingRows& ring) {
  return sequence.num_tokens > ring.length() ? sequence.num_tokens - ring.length() : 0;
}

}  // namespace krait::kernels
