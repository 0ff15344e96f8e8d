#pragma once

#include <cstdint>

#include "kernels/core/tensor.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/ops/recurrent_batch.h"

namespace krait::kernels {

// One sequence of a RecurrentBatch.
struct RecurrentSequence {
  RecurrentSequence(const RecurrentBatch& batch, int64_t s)
      : first_row(batch.query_start[s]),
        num_tokens(batch.query_start[s + 1] - batch.query_start[s]),
        slot(batch.slots[s]),
        first_position(batch.first_position[s]),
        final_end(batch.final_position[s]),
        state_position(batch.state_position[s]),
        parents(batch.parents == nullptr ? nullptr : batch.parents + batch.query_start[s]) {}

  int64_t Parent(int64_t token) const { return parents == nullptr ? token - 1 : parents[token]; }
  int64_t position(int64_t token) const { return first_position + token; }  // of a chain's token
  int64_t end() const { return first_position + num_tokens; }
  int64_t num_final() const {  // of the new tokens
    return final_end > first_position ? final_end - first_position : 0;
  }

  // The first new token whose input is needed once a call's folds are done.
  int64_t FirstUnfolded(int fold_interval) const {
    const int64_t boundary = final_end / fold_interval * fold_interval;
    return boundary > first_position ? boundary - first_position : 0;
  }

  int64_t first_row;   // of its new tokens
  int64_t num_tokens;  // new ones
  int64_t slot;
  int64_t first_position;  // of the first new token
  int64_t final_end;       // position after the last final token, new or earlier
  int64_t state_position;  // what is stored is of tokens before this
  const int32_t* parents;  // null: a chain
};

// Rows of one slot of a ring [num_slots, R, width], by position.
class RingRows {
 public:
  RingRows(const TensorView& ring, int64_t slot)
      : rows_(ring.row<float>(slot)), length_(ring.dim(1)), width_(ring.dim(2)) {}

  float* operator[](int64_t position) const { return rows_ + position % length_ * width_; }
  int64_t length() const { return length_; }
  int64_t width() const { return width_; }

 private:
  float* rows_;
  int64_t length_;
  int64_t width_;
};

// CHECK-fails unless the batch is one (ops/recurrent_batch.h) for `num_tokens` rows and
// `num_slots` slots.
void CheckRecurrentBatch(const RecurrentBatch& batch, int64_t num_tokens, int64_t num_slots);

// Calls run(sequence, part) for every sequence and part in [0, num_parts), on all threads; then, as
// every part has read what the rings held, finish(sequence) for every sequence, on the caller. A
// template, since a part may be a few hundred nanoseconds.
template <typename Run, typename Finish>
void RunParts(const CpuContext& context, const RecurrentBatch& batch, int64_t num_parts,
              const Run& run, const Finish& finish) {
  context.pool->ForEach(batch.num_sequences * num_parts, [&](int64_t task) {
    run(RecurrentSequence(batch, task / num_parts), task % num_parts);
  });
  for (int64_t s = 0; s < batch.num_sequences; ++s) finish(RecurrentSequence(batch, s));
}

}  // namespace krait::kernels
