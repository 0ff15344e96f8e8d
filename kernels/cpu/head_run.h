#pragma once

#include <cstdint>
#include <vector>

#include "kernels/cpu/recurrent_sequence.h"
#include "kernels/cpu/state_head.h"
#include "kernels/cpu/state_layout.h"

namespace krait::kernels {

// One head of one sequence, from the checkpoint to the last new token. Reads the ring, and writes
// only what no other head reads: its state, its outputs and its column of the ring's dt.
class HeadRun {
 public:
  // All outlive this.
  HeadRun(const SelectiveStateUpdateParams& params, const StateLayout& layout,
          const HeadFunctions& functions, const RecurrentSequence& sequence, int64_t head);

  void Run();

 private:
  HeadShape shape() const { return {layout_.head_dim, layout_.state_dim}; }
  StateInput InputAt(const float* row, float dt) const;
  StateInput Committed(int64_t position) const;
  StateInput New(int64_t token) const;
  const float* C(int64_t token) const;

  void DiscretizeNew();
  void Append(const StateInput& input);
  void FoldIfWhole();
  void RunChain();
  void RunTree();
  // The checkpoint's products with C of `count` new tokens from `first` on, into products_.
  void Multiply(int64_t first, int64_t count);
  // `t`: of the tokens that were multiplied last.
  void Output(const StateInputs& inputs, int64_t token, int64_t t) const;
  void WriteSteps() const;

  const SelectiveStateUpdateParams& params_;
  const StateLayout& layout_;
  const HeadFunctions& functions_;
  const RecurrentSequence& sequence_;
  const RingRows ring_;
  const int64_t head_;
  const float a_;
  float* const stored_;
  int64_t boundary_;              // inputs_ are those since
  const float* state_ = nullptr;  // at the boundary; null: 0
  StateInputs inputs_;
  std::vector<const float*> c_;  // of the tokens that are multiplied
  std::vector<float> products_;  // [tokens, P]: the checkpoint's S C
  std::vector<float> dt_;        // of the new tokens, after softplus
  std::vector<float> scratch_;   // a state beyond what is final
};

}  // namespace krait::kernels
