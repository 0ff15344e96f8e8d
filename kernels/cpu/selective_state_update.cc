// The formula and its order: ops/selective_state_update.h. A task is one head of one sequence; its
// state [N, P] is read as rows of P lanes, so that every element of S C_t is one chain over n.

#include <algorithm>
#include <vector>

#include "common/logging.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/recurrent_sequence.h"
#include "kernels/cpu/state_head.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/selective_state_update.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/cpu/target.h"
#include "kernels/cpu/vec8-inl.h"

HWY_BEFORE_NAMESPACE();
namespace krait::kernels {
namespace HWY_NAMESPACE {

// dt to softplus(dt + bias), in place; n is a multiple of eight.
void DiscretizeSteps(float* dt, int64_t n, float bias) {
  for (int64_t i = 0; i < n; i += kLanes) {
    Store(Softplus(Add(Load(dt + i), SetF32(bias))), dt + i);
  }
}

// One more token's decay l for everything since the checkpoint; its own is 0.
void AppendInput(const StateInput& input, float l, StateInputs& inputs) {
  for (int i = 0; i <= inputs.count; i += kLanes) {
    Store(Add(Load(inputs.decay + i), SetF32(l)), inputs.decay + i);
  }
  inputs.input[inputs.count++] = input;
  for (int i = inputs.count; i % kLanes != 0 || i == inputs.count; ++i) inputs.decay[i] = 0;
}

// dots[u] = B_u . C for all inputs, eight sums side by side; room for whole vectors of eight.
void InputProducts(const StateInputs& inputs, const float* c, int64_t n, float* dots) {
  for (int first = 0; first < inputs.count; first += kLanes) {
    const float* b[kLanes];
    F32 sums[kLanes];
    for (int k = 0; k < kLanes; ++k) {
      b[k] = inputs.input[std::min(first + k, inputs.count - 1)].b;
      sums[k] = SetF32(0.0f);
    }
    for (int64_t i = 0; i < n; i += kLanes) {
      const F32 factor = Load(c + i);
#pragma GCC unroll 8
      for (int k = 0; k < kLanes; ++k) sums[k] = Fma(Load(b[k] + i), factor, sums[k]);
    }
    Store(SumLanesOfEach(sums), dots + first);
  }
}

// e^decay of all, as many as inputs + 1.
HWY_INLINE void Factors(const StateInputs& inputs, float* factors) {
  for (int i = 0; i <= inputs.count; i += kLanes) Store(Exp(Load(inputs.decay + i)), factors + i);
}

// S C_t for kTokens tokens and kVectors vectors of p: as many chains side by side, each over n, to
// hide the latency of the additions.
template <int kTokens, int kVectors>
HWY_INLINE void ProductLanes(const HeadShape& shape, const float* state, const float* const* c,
                             int64_t p, float* out) {
  F32 acc[kTokens][kVectors];
#pragma GCC unroll 8
  for (int t = 0; t < kTokens; ++t) {
#pragma GCC unroll 8
    for (int i = 0; i < kVectors; ++i) acc[t][i] = SetF32(0.0f);
  }
  for (int64_t n = 0; n < shape.state_dim; ++n) {
    F32 row[kVectors];
#pragma GCC unroll 8
    for (int i = 0; i < kVectors; ++i) row[i] = Load(state + n * shape.head_dim + p + i * kLanes);
#pragma GCC unroll 8
    for (int t = 0; t < kTokens; ++t) {
      const F32 factor = SetF32(c[t][n]);
#pragma GCC unroll 8
      for (int i = 0; i < kVectors; ++i) acc[t][i] = Fma(row[i], factor, acc[t][i]);
    }
  }
#pragma GCC unroll 8
  for (int t = 0; t < kTokens; ++t) {
#pragma GCC unroll 8
    for (int i = 0; i < kVectors; ++i) {
      Store(acc[t][i], out + t * shape.head_dim + p + i * kLanes);
    }
  }
}

// The same for `count` tokens: columns of the state that are read for one stay in the nearest cache
// for the others.
template <int kVectors>
HWY_INLINE void ProductColumns(const HeadShape& shape, const float* state, const float* const* c,
                               int64_t count, int64_t p, float* out) {
  int64_t t = 0;
  for (; t + 4 <= count; t += 4) {
    ProductLanes<4, kVectors>(shape, state, c + t, p, out + t * shape.head_dim);
  }
  for (; t + 2 <= count; t += 2) {
    ProductLanes<2, kVectors>(shape, state, c + t, p, out + t * shape.head_dim);
  }
  if (t < count) ProductLanes<1, kVectors>(shape, state, c + t, p, out + t * shape.head_dim);
}

// out [count, P]: S C_t, for c [count] of [N].
void StateProducts(const HeadShape& shape, const float* state, const float* const* c, int64_t count,
                   float* out) {
  int64_t p = 0;
  if (count == 1) {
    for (; p + 8 * kLanes <= shape.head_dim; p += 8 * kLanes) {
      ProductLanes<1, 8>(shape, state, c, p, out);
    }
  }
  for (; p + 2 * kLanes <= shape.head_dim; p += 2 * kLanes) {
    ProductColumns<2>(shape, state, c, count, p, out);
  }
  for (; p < shape.head_dim; p += kLanes) ProductColumns<1>(shape, state, c, count, p, out);
}

// y[p] for kVectors vectors of p, side by side like ProductLanes.
template <int kVectors>
HWY_INLINE void OutputLanes(const float* product, const StateInputs& inputs, const float* weights,
                            float d, int64_t p, float* y) {
  F32 acc[kVectors];
#pragma GCC unroll 8
  for (int i = 0; i < kVectors; ++i) {
    acc[i] =
        product == nullptr ? SetF32(0.0f) : Mul(SetF32(weights[0]), Load(product + p + i * kLanes));
  }
  for (int u = 0; u < inputs.count; ++u) {
    const float* x = inputs.input[u].x + p;
    const F32 weight = SetF32(weights[1 + u]);
#pragma GCC unroll 8
    for (int i = 0; i < kVectors; ++i) acc[i] = Fma(weight, Load(x + i * kLanes), acc[i]);
  }
  const float* own = inputs.input[inputs.count - 1].x + p;
#pragma GCC unroll 8
  for (int i = 0; i < kVectors; ++i) {
    Store(Fma(SetF32(d), Load(own + i * kLanes), acc[i]), y + p + i * kLanes);
  }
}

// The output of the last of `inputs`; `product`: the checkpoint's S C, null if it is 0.
void HeadOutput(const HeadShape& shape, const float* product, const StateInputs& inputs,
                const float* c, float d, float* y) {
  float weights[kMaxFoldInterval + 8], dots[kMaxFoldInterval + 8];
  Factors(inputs, weights);
  InputProducts(inputs, c, shape.state_dim, dots);
  for (int u = 0; u < inputs.count; ++u) {
    weights[1 + u] = weights[1 + u] * inputs.input[u].dt * dots[u];
  }
  int64_t p = 0;
  for (; p + 8 * kLanes <= shape.head_dim; p += 8 * kLanes) {
    OutputLanes<8>(product, inputs, weights, d, p, y);
  }
  for (; p < shape.head_dim; p += kLanes) OutputLanes<1>(product, inputs, weights, d, p, y);
}

template <int kVectors>
HWY_INLINE void FoldLanes(const StateInputs& inputs, const float* weights, const float* from,
                          float decay, int64_t n, int64_t p, float* to) {
  F32 acc[kVectors];
#pragma GCC unroll 8
  for (int i = 0; i < kVectors; ++i) {
    acc[i] = from == nullptr ? SetF32(0.0f) : Mul(SetF32(decay), Load(from + p + i * kLanes));
  }
  for (int u = 0; u < inputs.count; ++u) {
    const F32 weight = SetF32(weights[u] * inputs.input[u].b[n]);
    const float* x = inputs.input[u].x + p;
#pragma GCC unroll 8
    for (int i = 0; i < kVectors; ++i) acc[i] = Fma(weight, Load(x + i * kLanes), acc[i]);
  }
#pragma GCC unroll 8
  for (int i = 0; i < kVectors; ++i) Store(acc[i], to + p + i * kLanes);
}

// The checkpoint after `inputs`, which are all of an interval; `from` null: it was 0. May be in
// place.
void FoldState(const HeadShape& shape, const float* from, const StateInputs& inputs, float* to) {
  float factors[kMaxFoldInterval + 8];
  Factors(inputs, factors);
  float weights[kMaxFoldInterval];
  for (int u = 0; u < inputs.count; ++u) weights[u] = factors[1 + u] * inputs.input[u].dt;
  for (int64_t n = 0; n < shape.state_dim; ++n) {
    const float* row = from == nullptr ? nullptr : from + n * shape.head_dim;
    float* out = to + n * shape.head_dim;
    int64_t p = 0;
    for (; p + 8 * kLanes <= shape.head_dim; p += 8 * kLanes) {
      FoldLanes<8>(inputs, weights, row, factors[0], n, p, out);
    }
    for (; p < shape.head_dim; p += kLanes) {
      FoldLanes<1>(inputs, weights, row, factors[0], n, p, out);
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace krait::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace krait::kernels {
namespace {

struct StateLayout {
  explicit StateLayout(const SelectiveStateUpdateParams& params)
      : num_heads(params.state.dim(1)),
        state_dim(params.state.dim(2)),
        head_dim(params.state.dim(3)),
        num_groups((params.ring.dim(2) - num_heads) / (head_dim + state_dim)) {}

  int64_t group(int64_t head) const { return head / (num_heads / num_groups); }
  int64_t b_offset() const { return num_groups * head_dim; }
  int64_t dt_offset() const { return num_groups * (head_dim + state_dim); }
  int64_t state_size() const { return state_dim * head_dim; }

  int64_t num_heads, state_dim, head_dim, num_groups;
};

void CheckShapes(const SelectiveStateUpdateParams& params, const StateLayout& layout) {
  const int64_t heads = layout.num_heads, num_tokens = params.xbc.dim(0);
  CHECK(layout.head_dim % 8 == 0 && layout.head_dim <= kMaxStateHeadDim) << layout.head_dim;
  CHECK(layout.state_dim % 8 == 0 && layout.state_dim > 0) << layout.state_dim;
  CHECK_EQ(params.ring.dim(2), layout.dt_offset() + heads);
  CHECK_EQ(heads % layout.num_groups, 0);
  CHECK_EQ(params.xbc.dim(1), layout.dt_offset() + heads * layout.state_dim);
  CHECK(params.dt.shape == (Shape{num_tokens, heads})) << params.dt.shape.ToString();
  CHECK(params.y.shape == (Shape{num_tokens, heads * layout.head_dim}));
  for (const TensorView& each : {params.dt_bias, params.a, params.d}) CHECK_EQ(each.dim(0), heads);
  CHECK(params.fold_interval >= 1 && params.fold_interval <= kMaxFoldInterval);
  CHECK_EQ(params.ring.dim(0), params.state.dim(0));
  CheckRecurrentBatch(params.batch, num_tokens, params.state.dim(0));
}

// The first new token whose input is needed once this call's folds are done.
int64_t FirstUnfolded(const RecurrentSequence& sequence, int interval) {
  return std::max<int64_t>(0, sequence.final_end / interval * interval - sequence.first_position);
}

// After every head has read what is there.
void WriteInputs(const SelectiveStateUpdateParams& params, const StateLayout& layout,
                 const RecurrentSequence& sequence) {
  const RingRows ring(params.ring, sequence.slot);
  const int64_t first = FirstUnfolded(sequence, params.fold_interval);
  const int64_t oldest = sequence.final_end / params.fold_interval * params.fold_interval;
  CHECK_LE(sequence.end() - oldest, ring.length()) << "too many drafts for the ring";
  for (int64_t i = first; i < sequence.num_tokens; ++i) {
    std::copy_n(params.xbc.row<float>(sequence.first_row + i), layout.dt_offset(),
                ring[sequence.position(i)]);
  }
}

void CountTraffic(const SelectiveStateUpdateParams& params, const StateLayout& layout) {
  const int64_t interval = params.fold_interval;
  const int64_t state_bytes = layout.num_heads * layout.state_size() * 4;
  const int64_t entry_bytes = params.ring.dim(2) * 4;
  for (int64_t s = 0; s < params.batch.num_sequences; ++s) {
    const RecurrentSequence sequence(params.batch, s);
    const int64_t before = sequence.state_position / interval;
    const int64_t folds = sequence.final_end / interval - before;
    // A state that is folded several times in one call stays in the cache in between.
    if (before > 0) params.traffic->state_read += state_bytes;
    if (folds > 0) params.traffic->state_written += state_bytes;
    params.traffic->ring_read += (sequence.first_position - before * interval) * entry_bytes;
    params.traffic->ring_written +=
        (sequence.num_tokens - FirstUnfolded(sequence, params.fold_interval)) * entry_bytes;
  }
}

struct HeadFunctions {
  decltype(&HWY_STATIC_DISPATCH(DiscretizeSteps)) discretize;
  decltype(&HWY_STATIC_DISPATCH(AppendInput)) append;
  decltype(&HWY_STATIC_DISPATCH(StateProducts)) products;
  decltype(&HWY_STATIC_DISPATCH(HeadOutput)) output;
  decltype(&HWY_STATIC_DISPATCH(FoldState)) fold;
};

HeadFunctions FunctionsFor(Target target) {
  return {KRAIT_PICK(target, DiscretizeSteps), KRAIT_PICK(target, AppendInput),
          KRAIT_PICK(target, StateProducts), KRAIT_PICK(target, HeadOutput),
          KRAIT_PICK(target, FoldState)};
}

// One head of one sequence, from the checkpoint to the last new token.
class HeadRun {
 public:
  HeadRun(const SelectiveStateUpdateParams& params, const HeadFunctions& functions,
          const RecurrentSequence& sequence, int64_t head)
      : params_(params),
        functions_(functions),
        layout_(params),
        sequence_(sequence),
        ring_(params.ring, sequence.slot),
        head_(head),
        a_(params.a.ptr<float>()[head]),
        stored_(params.state.row<float>(sequence.slot) + head * layout_.state_size()),
        boundary_(sequence.state_position / params.fold_interval * params.fold_interval) {
    if (boundary_ > 0) state_ = stored_;
  }

  void Run() {
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

 private:
  HeadShape shape() const { return {layout_.head_dim, layout_.state_dim}; }

  void DiscretizeNew() {
    dt_.assign((sequence_.num_tokens + 7) / 8 * 8, 0.0f);
    for (int64_t i = 0; i < sequence_.num_tokens; ++i) {
      dt_[i] = params_.dt.row<float>(sequence_.first_row + i)[head_];
    }
    functions_.discretize(dt_.data(), static_cast<int64_t>(dt_.size()),
                          params_.dt_bias.ptr<float>()[head_]);
  }

  StateInput InputAt(const float* row, float dt) const {
    const int64_t group = layout_.group(head_);
    return {row + group * layout_.head_dim, row + layout_.b_offset() + group * layout_.state_dim,
            dt};
  }
  StateInput Committed(int64_t position) const {
    const float* row = ring_[position];
    return InputAt(row, row[layout_.dt_offset() + head_]);
  }
  StateInput New(int64_t token) const {
    return InputAt(params_.xbc.row<float>(sequence_.first_row + token), dt_[token]);
  }

  void Append(const StateInput& input) {
    FoldIfWhole();
    functions_.append(input, a_ * input.dt, inputs_);
  }

  // Written only once the whole interval is final: until then a fold is scratch.
  void FoldIfWhole() {
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
  void RunChain() {
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

  void RunTree() {
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

  const float* C(int64_t token) const {
    return params_.xbc.row<float>(sequence_.first_row + token) + layout_.dt_offset() +
           head_ * layout_.state_dim;
  }

  // The checkpoint's products with C of `count` new tokens from `first` on, into products_.
  void Multiply(int64_t first, int64_t count) {
    if (state_ == nullptr) return;
    c_.resize(count);
    products_.resize(count * layout_.head_dim);
    for (int64_t t = 0; t < count; ++t) c_[t] = C(first + t);
    functions_.products(shape(), state_, c_.data(), count, products_.data());
  }

  // `t`: of the tokens that were multiplied last.
  void Output(const StateInputs& inputs, int64_t token, int64_t t) const {
    const float* product = state_ == nullptr ? nullptr : products_.data() + t * layout_.head_dim;
    functions_.output(shape(), product, inputs, C(token), params_.d.ptr<float>()[head_],
                      params_.y.row<float>(sequence_.first_row + token) + head_ * layout_.head_dim);
  }

  // The ring's only column that no other head reads.
  void WriteSteps() const {
    for (int64_t i = FirstUnfolded(sequence_, params_.fold_interval); i < sequence_.num_tokens;
         ++i) {
      ring_[sequence_.position(i)][layout_.dt_offset() + head_] = dt_[i];
    }
  }

  const SelectiveStateUpdateParams& params_;
  const HeadFunctions& functions_;
  const StateLayout layout_;
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

}  // namespace

void RunSelectiveStateUpdate(const CpuContext& context, const SelectiveStateUpdateParams& params) {
  const StateLayout layout(params);
  CheckShapes(params, layout);
  const HeadFunctions functions = FunctionsFor(context.target);
  context.pool->ForEach(params.batch.num_sequences * layout.num_heads, [&](int64_t task) {
    const RecurrentSequence sequence(params.batch, task / layout.num_heads);
    HeadRun(params, functions, sequence, task % layout.num_heads).Run();
  });
  for (int64_t s = 0; s < params.batch.num_sequences; ++s) {
    WriteInputs(params, layout, RecurrentSequence(params.batch, s));
  }
  if (params.traffic != nullptr) CountTraffic(params, layout);
}

}  // namespace krait::kernels
#endif  // HWY_ONCE
