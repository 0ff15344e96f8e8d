#pragma once

// kernels/cpu/recurrent_sequence.h and conv_taps.h for kernels: the batch's arrays lie on the
// device.

#include <algorithm>
#include <cstdint>

#include "common/fast_math.h"
#include "kernels/core/tensor.h"
#include "kernels/cuda/elementwise.cuh"
#include "kernels/ops/causal_conv1d.h"
#include "kernels/ops/recurrent_batch.h"

namespace krait::kernels {

// One sequence of a RecurrentBatch.
struct RecurrentSequence {
  __device__ RecurrentSequence(const RecurrentBatch& batch, int s)
      : first_row(batch.query_start[s]),
        num_tokens(batch.query_start[s + 1] - batch.query_start[s]),
        slot(batch.slots[s]),
        first_position(batch.first_position[s]),
        final_end(batch.final_position[s]),
        state_position(batch.state_position[s]),
        parents(batch.parents == nullptr ? nullptr : batch.parents + batch.query_start[s]) {}

  __device__ int Parent(int token) const { return parents == nullptr ? token - 1 : parents[token]; }
  __device__ int position(int token) const { return first_position + token; }  // of a chain's token
  __device__ int num_final() const { return max(0, final_end - first_position); }  // new ones

  int first_row;   // of its new tokens
  int num_tokens;  // new ones
  int slot;
  int first_position;  // of the first new token
  int final_end;       // position after the last final token, new or earlier
  int state_position;  // what is stored is of tokens before this
  const int32_t* parents;
};

// A ring [num_slots, R, width].
struct Ring {
  float* data = nullptr;
  int64_t slot_stride = 0;
  int length = 0, width = 0;

  explicit Ring(const TensorView& view)
      : data(view.ptr<float>()),
        slot_stride(view.row_stride),
        length(static_cast<int>(view.dim(1))),
        width(static_cast<int>(view.dim(2))) {}

  __device__ float* Row(int slot, int position) const {
    return data + slot * slot_stride + int64_t{position % length} * width;
  }
  // The first new token whose entry has to be kept: those before it would be overwritten by later
  // ones of the same call.
  __device__ int FirstKept(const RecurrentSequence& sequence) const {
    return max(0, sequence.num_tokens - length);
  }
};

struct ConvWeight {
  const float* taps = nullptr;  // [num_taps, channels]
  const float* bias = nullptr;  // [channels]
  int64_t channels = 0;
  int num_taps = 0;
};

// silu(bias + sum of weight[j] in[j]) of output channel `out`, oldest input first; input(j) is the
// j-th input or null before position 0.
template <typename Input>
__device__ float Convolve(const ConvWeight& weight, int64_t in, int64_t out, const Input& input) {
  float sum = weight.bias[out];
  for (int j = 0; j < weight.num_taps; ++j) {
    const float* row = input(j);
    if (row == nullptr) continue;
    sum = fmaf(weight.taps[j * weight.channels + out], row[in], sum);
  }
  return fast_math::Silu(sum);
}

// The inputs of one output: its ancestors among the new tokens, then committed ones from the ring.
struct ConvTaps {
  const float* row[kMaxConvTaps];

  __device__ void Locate(const RecurrentSequence& sequence, const Rows& x, const Ring& ring,
                         int num_taps, int token) {
    int position = sequence.first_position - 1;  // of the last committed token
    for (int j = num_taps - 1; j >= 0; --j) {
      if (token >= 0) {
        row[j] = x[sequence.first_row + token];
        token = sequence.Parent(token);
      } else {
        row[j] = position < 0 ? nullptr : ring.Row(sequence.slot, position);
        --position;
      }
    }
  }

  __device__ void LocateCommitted(const RecurrentSequence& sequence, const Ring& ring, int num_taps,
                                  int position) {
    for (int j = num_taps - 1; j >= 0; --j, --position) {
      row[j] = position < 0 ? nullptr : ring.Row(sequence.slot, position);
    }
  }
};

}  // namespace krait::kernels
