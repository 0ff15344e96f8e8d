// The formula and its order: ops/selective_scan.h. A task is one group of N channels of one
// sequence; its state [N, N] has channels innermost, which are the lanes.

#include <algorithm>
#include <vector>

#include "common/logging.h"
#include "kernels/cpu/conv_taps.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/recurrent_sequence.h"
#include "kernels/cpu/scan_group.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/selective_scan.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/cpu/target.h"
#include "kernels/cpu/vec8-inl.h"
// After vec8-inl.h.
#include "kernels/cpu/conv_taps-inl.h"

HWY_BEFORE_NAMESPACE();
namespace krait::kernels {
namespace HWY_NAMESPACE {

// One token of one group: h moves on; y, if wanted, is its output.
void AdvanceGroup(const ScanGroup& group, const ScanToken& token, float* h, float* y) {
  for (int64_t p = 0; p < group.size; p += kLanes) {
    const int64_t channel = group.first_channel + p;
    const F32 x = ConvolveLanes(token.taps, group.conv, group.first_input + p, channel);
    const F32 delta = Softplus(Add(Load(token.dt + channel), Load(group.dt_bias + channel)));
    const F32 input = Mul(delta, x);
    F32 sum = SetF32(0.0f);
    for (int64_t n = 0; n < group.size; ++n) {
      float* state = h + n * group.size + p;
      const F32 decay = Exp(Mul(delta, Load(group.a + n * group.size + p)));
      const F32 next = Fma(input, SetF32(token.b[n]), Mul(decay, Load(state)));
      Store(next, state);
      if (y != nullptr) sum = Fma(next, SetF32(token.c[n]), sum);
    }
    if (y == nullptr) continue;
    const F32 gate = Silu(Load(token.z + channel));
    Store(Mul(Fma(Load(group.d + channel), x, sum), gate), y + channel);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace krait::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace krait::kernels {
namespace {

struct ScanLayout {
  explicit ScanLayout(const SelectiveScanParams& params)
      : channels(params.c.dim(1)),
        inputs(params.x.dim(1)),
        group_size(params.state.dim(2)),
        num_groups(channels / group_size),
        repeat(channels / inputs) {}

  int64_t state_size() const { return group_size * group_size; }

  int64_t channels, inputs, group_size, num_groups, repeat;
};

void CheckShapes(const SelectiveScanParams& params, const ScanLayout& layout) {
  const int64_t num_tokens = params.x.dim(0), taps = params.conv_weight.dim(0);
  CHECK(layout.group_size % 8 == 0 && layout.group_size > 0) << layout.group_size;
  CHECK_EQ(layout.inputs % layout.group_size, 0);
  CHECK_EQ(layout.channels, layout.inputs * layout.repeat);
  CHECK(params.state.shape ==
        (Shape{params.state.dim(0), layout.num_groups, layout.group_size, layout.group_size}));
  CHECK(params.a.shape == (Shape{layout.num_groups, layout.group_size, layout.group_size}));
  CHECK(params.b.shape == params.x.shape);
  for (const TensorView& each : {params.c, params.dt, params.z, params.y}) {
    CHECK(each.shape == (Shape{num_tokens, layout.channels})) << each.shape.ToString();
  }
  for (const TensorView& each : {params.conv_bias, params.dt_bias, params.d}) {
    CHECK_EQ(each.dim(0), layout.channels);
  }
  CHECK(taps >= 1 && taps <= kMaxConvTaps && params.conv_weight.dim(1) == layout.channels) << taps;
  CHECK_EQ(params.ring.dim(2), layout.inputs + layout.channels);
  CHECK_EQ(params.conv_ring.dim(2), layout.inputs);
  CheckRecurrentBatch(params.batch, num_tokens, params.state.dim(0));
}

// One group of one sequence: accepted drafts of the call before, then the new tokens.
class GroupRun {
 public:
  GroupRun(const SelectiveScanParams& params, decltype(&HWY_STATIC_DISPATCH(AdvanceGroup)) scan,
           const RecurrentSequence& sequence, int64_t index)
      : params_(params),
        scan_(scan),
        layout_(params),
        sequence_(sequence),
        ring_(params.ring, sequence.slot),
        conv_ring_(params.conv_ring, sequence.slot),
        group_(MakeGroup(index)),
        stored_(params.state.row<float>(sequence.slot) + index * layout_.state_size()) {}

  void Run() {
    if (sequence_.state_position == 0) std::fill_n(stored_, layout_.state_size(), 0.0f);
    for (int64_t t = sequence_.state_position; t < sequence_.first_position; ++t) {
      scan_(group_, Earlier(t), StateFor(t), nullptr);
    }
    sequence_.parents == nullptr ? RunChain() : RunTree();
  }

 private:
  ScanGroup MakeGroup(int64_t index) const {
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

  // Where the token at `position` leaves its state: drafts' states are never stored.
  float* StateFor(int64_t position) {
    if (position < sequence_.final_end) return stored_;
    if (drafted_.empty()) drafted_.assign(stored_, stored_ + layout_.state_size());
    return drafted_.data();
  }

  ScanToken Earlier(int64_t position) const {
    ScanToken token;
    token.taps.LocateCommitted(conv_ring_, group_.conv.num_taps, position);
    token.b = ring_[position] + group_.first_input;
    token.dt = ring_[position] + layout_.inputs;
    return token;
  }

  ScanToken New(int64_t i) const {
    const int64_t row = sequence_.first_row + i;
    ScanToken token;
    token.taps.Locate(sequence_, params_.x, conv_ring_, group_.conv.num_taps, i);
    token.b = params_.b.row<float>(row) + group_.first_input;
    token.c = params_.c.row<float>(row) + group_.first_channel;
    token.dt = params_.dt.row<float>(row);
    token.z = params_.z.row<float>(row);
    return token;
  }

  float* Output(int64_t i) const { return params_.y.row<float>(sequence_.first_row + i); }

  void RunChain() {
    for (int64_t i = 0; i < sequence_.num_tokens; ++i) {
      scan_(group_, New(i), StateFor(sequence_.position(i)), Output(i));
    }
  }

  // Every draft starts from its parent's state.
  void RunTree() {
    const int64_t size = layout_.state_size(), first_draft = sequence_.num_final();
    for (int64_t i = 0; i < first_draft; ++i) scan_(group_, New(i), stored_, Output(i));
    const float* root = StateFor(sequence_.first_position + first_draft);
    std::vector<float> states((sequence_.num_tokens - first_draft) * size);
    for (int64_t i = first_draft; i < sequence_.num_tokens; ++i) {
      const int64_t parent = sequence_.parents[i];
      CHECK_GE(parent, first_draft - 1) << "a draft before the last final token";
      float* h = states.data() + (i - first_draft) * size;
      std::copy_n(parent < first_draft ? root : h - (i - parent) * size, size, h);
      scan_(group_, New(i), h, Output(i));
    }
  }

  const SelectiveScanParams& params_;
  decltype(&HWY_STATIC_DISPATCH(AdvanceGroup)) const scan_;
  const ScanLayout layout_;
  const RecurrentSequence& sequence_;
  const RingRows ring_;
  const RingRows conv_ring_;
  const ScanGroup group_;
  float* const stored_;         // after the last final token, once they have run
  std::vector<float> drafted_;  // after drafts, of a chain
};

// After every group has read what is there: drafts' B and dt, and x as the next convolutions need
// it.
void WriteRings(const SelectiveScanParams& params, const ScanLayout& layout,
                const RecurrentSequence& sequence) {
  const RingRows ring(params.ring, sequence.slot), conv_ring(params.conv_ring, sequence.slot);
  CHECK_LE(sequence.end() - sequence.final_end, ring.length()) << "too many drafts for the ring";
  for (int64_t i = sequence.num_final(); i < sequence.num_tokens; ++i) {
    float* entry = ring[sequence.position(i)];
    std::copy_n(params.b.row<float>(sequence.first_row + i), layout.inputs, entry);
    std::copy_n(params.dt.row<float>(sequence.first_row + i), layout.channels,
                entry + layout.inputs);
  }
  for (int64_t i = FirstKept(sequence, conv_ring); i < sequence.num_tokens; ++i) {
    std::copy_n(params.x.row<float>(sequence.first_row + i), layout.inputs,
                conv_ring[sequence.position(i)]);
  }
}

void CountTraffic(const SelectiveScanParams& params, const ScanLayout& layout) {
  const int64_t state_bytes = layout.num_groups * layout.state_size() * 4;
  const int64_t entry_bytes = params.ring.dim(2) * 4, x_bytes = layout.inputs * 4;
  const int64_t taps = params.conv_weight.dim(0);
  for (int64_t s = 0; s < params.batch.num_sequences; ++s) {
    const RecurrentSequence sequence(params.batch, s);
    const int64_t replayed = sequence.first_position - sequence.state_position;
    StateTraffic& traffic = *params.traffic;
    if (sequence.state_position > 0) traffic.state_read += state_bytes;
    traffic.state_written += state_bytes;
    traffic.ring_read +=
        replayed * entry_bytes + std::min(replayed + taps - 1, sequence.first_position) * x_bytes;
    traffic.ring_written += (sequence.num_tokens - sequence.num_final()) * entry_bytes +
                            std::min(sequence.num_tokens, params.conv_ring.dim(1)) * x_bytes;
  }
}

}  // namespace

void RunSelectiveScan(const CpuContext& context, const SelectiveScanParams& params) {
  const ScanLayout layout(params);
  CheckShapes(params, layout);
  const auto scan = KRAIT_PICK(context.target, AdvanceGroup);
  context.pool->ForEach(params.batch.num_sequences * layout.num_groups, [&](int64_t task) {
    const RecurrentSequence sequence(params.batch, task / layout.num_groups);
    GroupRun(params, scan, sequence, task % layout.num_groups).Run();
  });
  for (int64_t s = 0; s < params.batch.num_sequences; ++s) {
    WriteRings(params, layout, RecurrentSequence(params.batch, s));
  }
  if (params.traffic != nullptr) CountTraffic(params, layout);
}

}  // namespace krait::kernels
#endif  // HWY_ONCE
