#include "kernels/cpu/head_run.h"

#include <algorithm>

#include "common/logging.h"

namespace krait::kernels {

HeadRun::HeadRun(const SelectiveStateUpdateParams& params, const StateLayout& layout,
                 const HeadFunctions& functions, const RecurrentSequence& sequence, int64_t head)
    : params_(params),
      layout_(layout),
      functions_(functions),
      sequence_(sequence),
      ring_(params.ring, sequence.slot),
      head_(head),
      a_(params.a.ptr<float>()[head]),
      stored_(params.state.row<float>(sequence.slot) + head * layout_.state_size()),
      boundary_(sequence.state_position / params.fold_interval * params.fold_interval) {
  if (boundary_ > 0) state_ = stored_;
}

void HeadRun::Run() {
  DiscretizeNew();
  for (int64_t position = boundary_; position < sequence_.first_position; ++position) {
    Append(Committed(position));
  }
  if (sequence_.parents == nullptr) {
    RunChain();
  } else {
    RunTree();
  }
  WriteSteps();
}

void HeadRun::DiscretizeNew() {
  dt_.assign((sequence_.num_tokens + 7) / 8 * 8, 0.0f);
  for (int64_t i = 0; i < sequence_.num_tokens; ++i) {
    dt_[i] = params_.dt.row<float>(sequence_.first_row + i)[head_];
  }
  functions_.discretize(dt_.data(), static_cast<int64_t>(dt_.size()),
                        params_.dt_bias.ptr<float>()[head_]);
}

StateInput HeadRun::InputAt(const float* row, float dt) const {
  const int64_t group = layout_.group(head_);
  return {row + group * layout_.head_dim, row + layout_.b_offset() + group * layout_.state_dim, dt};
}

StateInput HeadRun::Committed(int64_t position) const {
  const float* row = ring_[position];
  return InputAt(row, row[layout_.dt_offset() + head_]);
}

StateInput HeadRun::New(int64_t token) const {
  return InputAt(params_.xbc.row<float>(sequence_.first_row + token), dt_[token]);
}

void HeadRun::Append(const StateInput& input) {
  FoldIfWhole();
  functions_.append(input, a_ * input.dt, inputs_);
}

// Written only once the whole interval is final: until then a fold is scratch.
void HeadRun::FoldIfWhole() {
  if (inputs_.count < params_.fold_interval) return;
  boundary_ += params_.fold_interval;
  float* to = stored_;
  if (boundary_ > sequence_.final_end) {
    scratch_.resize(layout_.state_size());
    to = scratch_.data();
  }
  functions_.fold(shape(), state_, inputs_, to);
  state_ = to;
  inputs_ = StateInputs();
}

// Tokens of one interval have the same checkpoint.
void HeadRun::RunChain() {
  for (int64_t i = 0; i < sequence_.num_tokens;) {
    FoldIfWhole();
    const int64_t count =
        std::min<int64_t>(sequence_.num_tokens - i, params_.fold_interval - inputs_.count);
    Multiply(i, count);
    for (int64_t t = 0; t < count; ++t, ++i) {
      Append(New(i));
      Output(inputs_, i, t);
    }
  }
  if (boundary_ + params_.fold_interval <= sequence_.final_end) FoldIfWhole();
}

void HeadRun::RunTree() {
  FoldIfWhole();
  Multiply(0, sequence_.num_tokens);
  std::vector<StateInputs> paths(sequence_.num_tokens);
  for (int64_t i = 0; i < sequence_.num_tokens; ++i) {
    const int64_t parent = sequence_.parents[i];
    paths[i] = parent < 0 ? inputs_ : paths[parent];
    CHECK_LT(paths[i].count, params_.fold_interval) << "a tree reaches a fold boundary";
    const StateInput input = New(i);
    functions_.append(input, a_ * input.dt, paths[i]);
    Output(paths[i], i, i);
  }
  if (sequence_.num_final() > 0) inputs_ = paths[sequence_.num_final() - 1];
  if (boundary_ + params_.fold_interval <= sequence_.final_end) FoldIfWhole();
}

const float* HeadRun::C(int64_t token) const {
  return params_.xbc.row<float>(sequence_.first_row + token) + layout_.dt_offset() +
         head_ * layout_.state_dim;
}

void HeadRun::Multiply(int64_t first, int64_t count) {
  if (state_ == nullptr) return;
  c_.resize(count);
  products_.resize(count * layout_.head_dim);
  for (int64_t t = 0; t < count; ++t) c_[t] = C(first + t);
  functions_.products(shape(), state_, c_.data(), count, products_.data());
}

void HeadRun::Output(const StateInputs& inputs, int64_t token, int64_t t) const {
  const float* product = state_ == nullptr ? nullptr : products_.data() + t * layout_.head_dim;
  functions_.output(shape(), product, inputs, C(token), params_.d.ptr<float>()[head_],
                    params_.y.row<float>(sequence_.first_row + token) + head_ * layout_.head_dim);
}

// The ring's only column that no other head reads.
void HeadRun::WriteSteps() const {
  for (int64_t i = sequence_.FirstUnfolded(params_.fold_interval); i < sequence_.num_tokens; ++i) {
    ring_[sequence_.position(i)][layout_.dt_offset() + head_] = dt_[i];
  }
}

}  // namespace krait::kernels
