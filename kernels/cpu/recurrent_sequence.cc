#include "kernels/cpu/recurrent_sequence.h"

#include "common/logging.h"

namespace krait::kernels {
namespace {

void CheckTree(const RecurrentSequence& sequence) {
  const int64_t num_final = sequence.num_final();
  for (int64_t i = 0; i < sequence.num_tokens; ++i) {
    const int64_t parent = sequence.parents[i];
    CHECK(parent >= -1 && parent < i) << "token=" << i << " parent=" << parent;
    CHECK(i >= num_final || parent == i - 1) << "token=" << i << " parent=" << parent;
  }
}

}  // namespace

void CheckRecurrentBatch(const RecurrentBatch& batch, int64_t num_tokens, int64_t num_slots) {
  CHECK_EQ(batch.query_start[batch.num_sequences], num_tokens);
  for (int64_t s = 0; s < batch.num_sequences; ++s) {
    const RecurrentSequence sequence(batch, s);
    CHECK(sequence.slot >= 0 && sequence.slot < num_slots) << "slot=" << sequence.slot;
    CHECK_GT(sequence.num_tokens, 0);
    CHECK(sequence.state_position >= 0 && sequence.state_position <= sequence.final_end &&
          sequence.state_position <= sequence.first_position)
        << "state_position=" << sequence.state_position;
    CHECK_LE(sequence.final_end, sequence.end());
    if (sequence.parents != nullptr) CheckTree(sequence);
  }
}

}  // namespace krait::kernels
