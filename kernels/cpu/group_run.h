#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "common/logging.h"
#include "kernels/cpu/recurrent_sequence.h"
#include "kernels/cpu/scan_group.h"
#include "kernels/cpu/scan_layout.h"

namespace krait::kernels {

// One group of one sequence: accepted drafts of the call before, then the new tokens. Reads the
// rings, and writes only its state and its outputs. All inline: a group's token takes 300 ns, of
// which calls were 4 %.
class GroupRun {
 public:
  // All outlive this.
  GroupRun(const SelectiveScanParams& params, const ScanLayout& layout, AdvanceFunction advance,
           const RecurrentSequence& sequence, int64_t index);

  void Run();

 private:
  ScanGroup MakeGroup(int64_t index) const;
  // Where the token at `position` leaves its state: drafts' states are never stored.
  float* StateFor(int64_t position);
  ScanToken Earlier(int64_t position) const;
  ScanToken New(int64_t i) const;
  float* Output(int64_t i) const { return params_.y.row<float>(sequence_.first_row + i); }
  void RunChain();
  // Every draft starts from its parent's state.
  void RunTree();

  const SelectiveScanParams& params_;
  const AdvanceFunction advance_;
  const ScanLayout& layout_;
  const RecurrentSequence& sequence_;
  const RingRows ring_;
  const RingRows conv_ring_;
  const ScanGroup group_;
  float* const stored_;         // after the last final token, once they have run
  std::vector<float> drafted_;  // after drafts, of a chain
};

inline GroupRun::GroupRun(const SelectiveScanParams& params, const ScanLayout& layout,
                          AdvanceFunction advance, const RecurrentSequence& sequence, int64_t index)
    : params_(params),
      advance_(advance),
      layout_(layout),
      sequence_(sequence),
      ring_(params.ring, sequence.slot),
      conv_ring_(params.conv_ring, sequence.slot),
      group_(MakeGroup(index)),
      stored_(params.state.row<float>(sequence.slot) + index * layout_.state_size()) {}

inline void GroupRun::Run() {
  if (sequence_.state_position == 0) std::fill_n(stored_, layout_.state_size(), 0.0f);
  for (int64_t t = sequence_.state_position; t < sequence_.first_position; ++t) {
    advance_(group_, Earlier(t), StateFor(t), nullptr);
  }
  sequence_.parents == nullptr ? RunChain() : RunTree();
}

inline ScanGroup GroupRun::MakeGroup(int64_t index) const {
  ScanGroup group;
  group.size = layout_.group_size;
  group.first_channel = index * layout_.group_size;
  group.first_input = index / layout_.repeat * layout_.group_size;
  group.conv = {.taps = params_.conv_weight.ptr<float>(),
                .bias = params_.conv_bias.ptr<float>(),
                .channels = layout_.channels,
                .num_taps = static_cast<int>(params_.conv_weight.dim(0))};
  group.dt_bias = params_.dt_bias.ptr<float>();
  group.a = params_.a.row<float>(index);
  group.d = params_.d.ptr<float>();
  return group;
}

inline float* GroupRun::StateFor(int64_t position) {
  if (position < sequence_.final_end) return stored_;
  if (drafted_.empty()) drafted_.assign(stored_, stored_ + layout_.state_size());
  return drafted_.data();
}

inline ScanToken GroupRun::Earlier(int64_t position) const {
  ScanToken token;
  token.taps.LocateCommitted(conv_ring_, group_.conv.num_taps, position);
  token.b = ring_[position] + group_.first_input;
  token.dt = ring_[position] + layout_.inputs;
  return token;
}

inline ScanToken GroupRun::New(int64_t i) const {
  const int64_t row = sequence_.first_row + i;
  ScanToken token;
  token.taps.Locate(sequence_, params_.x, conv_ring_, group_.conv.num_taps, i);
  token.b = params_.b.row<float>(row) + group_.first_input;
  token.c = params_.c.row<float>(row) + group_.first_channel;
  token.dt = params_.dt.row<float>(row);
  token.z = params_.z.row<float>(row);
  return token;
}

inline void GroupRun::RunChain() {
  for (int64_t i = 0; i < sequence_.num_tokens; ++i) {
    advance_(group_, New(i), StateFor(sequence_.position(i)), Output(i));
  }
}

inline void GroupRun::RunTree() {
  const int64_t size = layout_.state_size(), first_draft = sequence_.num_final();
  for (int64_t i = 0; i < first_draft; ++i) advance_(group_, New(i), stored_, Output(i));
  const float* root = StateFor(sequence_.first_position + first_draft);
  std::vector<float> states((sequence_.num_tokens - first_draft) * size);
  for (int64_t i = first_draft; i < sequence_.num_tokens; ++i) {
    const int64_t parent = sequence_.parents[i];
    CHECK_GE(parent, first_draft - 1) << "a draft before the last final token";
    float* h = states.data() + (i - first_draft) * size;
    std::copy_n(parent < first_draft ? root : h - (i - parent) * size, size, h);
    advance_(group_, New(i), h, Output(i));
  }
}

}  // namespace krait::kernels
