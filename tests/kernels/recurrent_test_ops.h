#pragma once

// The recurrent ops with their memory, for the harness. All of it begins as NaN: what is read
// before it was written shows.

#include <cmath>

#include "common/fast_math.h"
#include "tests/kernels/recurrent_harness.h"

namespace krait::kernels {

inline constexpr int kTestSlots = 5;

inline TensorView View(std::vector<float>& values, Shape shape) {
  EXPECT_EQ(static_cast<int64_t>(values.size()), shape.num_elements());
  return TensorView(values.data(), DType::kF32, shape);
}

// Gaussian, negative or positive.
inline std::vector<float> Signed(int64_t n, uint32_t seed, float sign) {
  std::vector<float> values = Gaussian(n, seed);
  for (float& value : values) value = sign * (0.1f + std::abs(value));
  return values;
}

class ConvOp final : public RecurrentOp {
 public:
  explicit ConvOp(int drafts = 8, int ring_slack = 0, int64_t channels = 264)
      : channels_(channels),
        drafts_(drafts),
        ring_length_(drafts + kTaps - 1 + ring_slack),
        weight_(Gaussian(kTaps * channels, 3)),
        bias_(Gaussian(channels, 4)),
        ring_(kTestSlots * ring_length_ * channels, NAN) {}

  int64_t input_width() const override { return channels_; }
  int64_t output_width() const override { return channels_; }
  int64_t max_drafts() const override { return drafts_; }

  std::vector<float> Run(Backend& backend, const RecurrentBatch& batch, std::vector<float> inputs,
                         StateTraffic* traffic) override {
    const int64_t tokens = batch.query_start[batch.num_sequences];
    std::vector<float> out(tokens * channels_, NAN);
    backend.CausalConv1d({.batch = batch,
                          .x = View(inputs, {tokens, channels_}),
                          .weight = View(weight_, {kTaps, channels_}),
                          .bias = View(bias_, {channels_}),
                          .ring = View(ring_, {kTestSlots, ring_length_, channels_}),
                          .out = View(out, {tokens, channels_}),
                          .traffic = traffic});
    return out;
  }

  std::vector<float> Canonical(Backend&, const HarnessSequence& sequence) override {
    std::vector<float> rows;
    for (int p = std::max(0, sequence.committed - kTaps + 1); p < sequence.committed; ++p) {
      const auto row =
          ring_.begin() + (sequence.slot * ring_length_ + p % ring_length_) * channels_;
      rows.insert(rows.end(), row, row + channels_);
    }
    return rows;
  }

  // The formula in double, on a sequence's inputs.
  double Expected(uint32_t seed, int position, int64_t channel) const {
    double sum = bias_[channel];
    for (int j = 0; j < kTaps; ++j) {
      const int from = position - kTaps + 1 + j;
      if (from < 0) continue;
      sum += double{weight_[j * channels_ + channel]} * TrueInput(channels_, seed, from)[channel];
    }
    return sum / (1 + std::exp(-sum));
  }

  static constexpr int kTaps = 4;

 private:
  int64_t channels_, drafts_, ring_length_;
  std::vector<float> weight_, bias_, ring_;
};

struct StateOpShape {
  int64_t heads = 6, groups = 2, head_dim = 16, state_dim = 8;
  int interval = 32;
  int drafts = 8;
  int ring_slack = 0;  // added to the shortest ring that serves
};

class StateOp final : public RecurrentOp {
 public:
  explicit StateOp(const StateOpShape& shape = {})
      : shape_(shape),
        xb_(shape.groups * (shape.head_dim + shape.state_dim)),
        xbc_(xb_ + shape.heads * shape.state_dim),
        ring_length_(shape.interval - 1 + shape.drafts + shape.ring_slack),
        dt_bias_(Gaussian(shape.heads, 5)),
        a_(Signed(shape.heads, 6, -1.0f)),
        d_(Gaussian(shape.heads, 7)),
        state_(kTestSlots * shape.heads * shape.state_dim * shape.head_dim, NAN),
        ring_(kTestSlots * ring_length_ * (xb_ + shape.heads), NAN) {}

  int64_t input_width() const override { return xbc_ + shape_.heads; }
  int64_t output_width() const override { return shape_.heads * shape_.head_dim; }
  int64_t max_drafts() const override { return shape_.drafts; }
  int64_t state_bytes() const { return 4 * shape_.heads * shape_.state_dim * shape_.head_dim; }
  int64_t entry_bytes() const { return 4 * (xb_ + shape_.heads); }

  std::vector<float> Run(Backend& backend, const RecurrentBatch& batch, std::vector<float> inputs,
                         StateTraffic* traffic) override {
    const int64_t tokens = batch.query_start[batch.num_sequences];
    const TensorView rows = View(inputs, {tokens, input_width()});
    std::vector<float> y(tokens * output_width(), NAN);
    backend.SelectiveStateUpdate(
        {.batch = batch,
         .xbc = rows.Columns(0, xbc_),
         .dt = rows.Columns(xbc_, xbc_ + shape_.heads),
         .dt_bias = View(dt_bias_, {shape_.heads}),
         .a = View(a_, {shape_.heads}),
         .d = View(d_, {shape_.heads}),
         .state = View(state_, {kTestSlots, shape_.heads, shape_.state_dim, shape_.head_dim}),
         .ring = View(ring_, {kTestSlots, ring_length_, xb_ + shape_.heads}),
         .fold_interval = shape_.interval,
         .y = View(y, {tokens, output_width()}),
         .traffic = traffic});
    return y;
  }

  // The checkpoint at the last boundary and the ring from there to what is committed. A fold that
  // is due but not yet done is done on a copy, by a call that runs one token more.
  std::vector<float> Canonical(Backend& backend, const HarnessSequence& sequence) override {
    const std::vector<float> state = state_, ring = ring_;
    HarnessSequence copy = sequence;
    const int boundary = sequence.committed / shape_.interval * shape_.interval;
    if (sequence.state_position < boundary) {
      RunSchedule(backend, *this, copy, PlainSchedule(1), 12345);
    }
    std::vector<float> canonical;
    if (boundary > 0) {
      const int64_t size = state_bytes() / 4;
      canonical.assign(state_.begin() + sequence.slot * size,
                       state_.begin() + (sequence.slot + 1) * size);
    }
    const int64_t width = xb_ + shape_.heads;
    for (int p = boundary; p < sequence.committed; ++p) {
      const auto row = ring_.begin() + (sequence.slot * ring_length_ + p % ring_length_) * width;
      canonical.insert(canonical.end(), row, row + width);
    }
    state_ = state;
    ring_ = ring;
    return canonical;
  }

  // One token in float by the serial recurrence: `state` (empty: 0) moves on; returns its output.
  std::vector<float> Serial(const std::vector<float>& in, std::vector<float>& state) const {
    const int64_t per = shape_.heads / shape_.groups, P = shape_.head_dim, N = shape_.state_dim;
    state.resize(shape_.heads * P * N);
    std::vector<float> out;
    for (int64_t h = 0; h < shape_.heads; ++h) {
      const float* x = in.data() + h / per * P;
      const float* b = in.data() + shape_.groups * P + h / per * N;
      const float* c = in.data() + xb_ + h * N;
      const float dt = fast_math::Softplus(in[xbc_ + h] + dt_bias_[h]);
      const float decay = fast_math::Exp(dt * a_[h]);
      for (int64_t p = 0; p < P; ++p) {
        float* s = state.data() + (h * P + p) * N;
        float y = 0;
        for (int64_t n = 0; n < N; ++n) {
          s[n] = std::fma(dt * x[p], b[n], decay * s[n]);
          y = std::fma(s[n], c[n], y);
        }
        out.push_back(std::fma(d_[h], x[p], y));
      }
    }
    return out;
  }

  // The recurrence in double, token by token: outputs of all `num_tokens`.
  std::vector<double> Expected(uint32_t seed, int num_tokens) const {
    const int64_t per = shape_.heads / shape_.groups, P = shape_.head_dim, N = shape_.state_dim;
    std::vector<double> state(shape_.heads * P * N, 0.0), out;
    for (int t = 0; t < num_tokens; ++t) {
      const std::vector<float> in = TrueInput(input_width(), seed, t);
      for (int64_t h = 0; h < shape_.heads; ++h) {
        const float* x = in.data() + h / per * P;
        const float* b = in.data() + shape_.groups * P + h / per * N;
        const float* c = in.data() + xb_ + h * N;
        const double dt = std::log1p(std::exp(double{in[xbc_ + h]} + dt_bias_[h]));
        for (int64_t p = 0; p < P; ++p) {
          double y = double{d_[h]} * x[p];
          for (int64_t n = 0; n < N; ++n) {
            double& s = state[(h * P + p) * N + n];
            s = std::exp(dt * a_[h]) * s + dt * x[p] * b[n];
            y += s * c[n];
          }
          out.push_back(y);
        }
      }
    }
    return out;
  }

 private:
  const StateOpShape shape_;
  const int64_t xb_, xbc_, ring_length_;
  std::vector<float> dt_bias_, a_, d_, state_, ring_;
};

struct ScanOpShape {
  int64_t inputs = 16, repeat = 3, group = 8;
  int drafts = 8;
  int ring_slack = 0;
  int conv_slack = 0;
};

class ScanOp final : public RecurrentOp {
 public:
  explicit ScanOp(const ScanOpShape& shape = {})
      : shape_(shape),
        channels_(shape.inputs * shape.repeat),
        ring_length_(std::max(1, shape.drafts + shape.ring_slack)),
        conv_length_(shape.drafts + kTaps - 1 + shape.conv_slack),
        conv_weight_(Gaussian(kTaps * channels_, 3)),
        conv_bias_(Gaussian(channels_, 4)),
        dt_bias_(Gaussian(channels_, 5)),
        a_(Signed(channels_ * shape.group, 6, -1.0f)),
        d_(Gaussian(channels_, 7)),
        state_(kTestSlots * channels_ * shape.group, NAN),
        ring_(kTestSlots * ring_length_ * (shape.inputs + channels_), NAN),
        conv_ring_(kTestSlots * conv_length_ * shape.inputs, NAN) {}

  int64_t input_width() const override { return 2 * shape_.inputs + 3 * channels_; }
  int64_t output_width() const override { return channels_; }
  int64_t max_drafts() const override { return shape_.drafts; }
  int64_t state_bytes() const { return 4 * channels_ * shape_.group; }

  std::vector<float> Run(Backend& backend, const RecurrentBatch& batch, std::vector<float> inputs,
                         StateTraffic* traffic) override {
    const int64_t tokens = batch.query_start[batch.num_sequences], X = shape_.inputs;
    const int64_t D = channels_, groups = D / shape_.group, N = shape_.group;
    const TensorView rows = View(inputs, {tokens, input_width()});
    std::vector<float> y(tokens * D, NAN);
    backend.SelectiveScan({.batch = batch,
                           .x = rows.Columns(0, X),
                           .b = rows.Columns(X, 2 * X),
                           .c = rows.Columns(2 * X, 2 * X + D),
                           .dt = rows.Columns(2 * X + D, 2 * X + 2 * D),
                           .z = rows.Columns(2 * X + 2 * D, 2 * X + 3 * D),
                           .conv_weight = View(conv_weight_, {kTaps, D}),
                           .conv_bias = View(conv_bias_, {D}),
                           .dt_bias = View(dt_bias_, {D}),
                           .a = View(a_, {groups, N, N}),
                           .d = View(d_, {D}),
                           .state = View(state_, {kTestSlots, groups, N, N}),
                           .ring = View(ring_, {kTestSlots, ring_length_, X + D}),
                           .conv_ring = View(conv_ring_, {kTestSlots, conv_length_, X}),
                           .y = View(y, {tokens, D}),
                           .traffic = traffic});
    return y;
  }

  // The state after everything committed, by a call that runs one token more on a copy: it replays
  // what is accepted. Then the token's own part is the same for all, so states still compare.
  std::vector<float> Canonical(Backend& backend, const HarnessSequence& sequence) override {
    const std::vector<float> state = state_, ring = ring_, conv_ring = conv_ring_;
    HarnessSequence copy = sequence;
    RunSchedule(backend, *this, copy, PlainSchedule(1), 12345);
    const int64_t size = state_bytes() / 4;
    const std::vector<float> canonical(state_.begin() + sequence.slot * size,
                                       state_.begin() + (sequence.slot + 1) * size);
    state_ = state;
    ring_ = ring;
    conv_ring_ = conv_ring;
    return canonical;
  }

  // One token in float: `state` (empty: 0), which is the recurrent one and after it the last inputs
  // of the convolution, moves on; returns its output.
  std::vector<float> Serial(const std::vector<float>& in, std::vector<float>& state) const {
    const int64_t X = shape_.inputs, D = channels_, N = shape_.group;
    const bool first = state.empty();
    state.resize(D * N + kTaps * X + 1);
    float* const inputs = state.data() + D * N;  // [kTaps, X], newest last; then how many
    float& known = state.back();
    known = std::min<float>(kTaps, first ? 1 : known + 1);
    std::copy(inputs + X, inputs + kTaps * X, inputs);
    std::copy_n(in.data(), X, inputs + (kTaps - 1) * X);
    std::vector<float> out;
    for (int64_t c = 0; c < D; ++c) {
      const int64_t group = c / N, input = group / shape_.repeat * N;
      float sum = conv_bias_[c];
      for (int j = kTaps - static_cast<int>(known); j < kTaps; ++j) {
        sum = std::fma(conv_weight_[j * D + c], inputs[j * X + input + c % N], sum);
      }
      const float x = fast_math::Silu(sum);
      const float* b = in.data() + X + input;
      const float* own_c = in.data() + 2 * X + group * N;
      const float delta = fast_math::Softplus(in[2 * X + D + c] + dt_bias_[c]);
      float y = 0;
      for (int64_t n = 0; n < N; ++n) {
        float& s = state[c * N + n];
        const float decay = fast_math::Exp(delta * a_[(group * N + n) * N + c % N]);
        s = std::fma(delta * x, b[n], decay * s);
        y = std::fma(s, own_c[n], y);
      }
      out.push_back(std::fma(d_[c], x, y) * fast_math::Silu(in[2 * X + 2 * D + c]));
    }
    return out;
  }

  std::vector<double> Expected(uint32_t seed, int num_tokens) const {
    const int64_t X = shape_.inputs, D = channels_, N = shape_.group;
    std::vector<double> h(D * N, 0.0), out;
    const auto softplus = [](double v) { return std::log1p(std::exp(v)); };
    const auto silu = [](double v) { return v / (1 + std::exp(-v)); };
    std::vector<std::vector<float>> in;
    for (int t = 0; t < num_tokens; ++t) {
      in.push_back(TrueInput(input_width(), seed, t));
      for (int64_t c = 0; c < D; ++c) {
        const int64_t group = c / N, input = group / shape_.repeat * N;
        double x = conv_bias_[c];
        for (int j = 0; j < kTaps; ++j) {
          const int from = t - kTaps + 1 + j;
          if (from >= 0) x += double{conv_weight_[j * D + c]} * in[from][input + c % N];
        }
        x = silu(x);
        const float* b = in[t].data() + X + input;
        const float* own_c = in[t].data() + 2 * X + group * N;
        const double delta = softplus(double{in[t][2 * X + D + c]} + dt_bias_[c]);
        double y = double{d_[c]} * x;
        for (int64_t n = 0; n < N; ++n) {
          double& s = h[c * N + n];
          s = std::exp(delta * a_[(group * N + n) * N + c % N]) * s + delta * x * b[n];
          y += s * own_c[n];
        }
        out.push_back(y * silu(in[t][2 * X + 2 * D + c]));
      }
    }
    return out;
  }

  static constexpr int kTaps = 4;

 private:
  const ScanOpShape shape_;
  const int64_t channels_, ring_length_, conv_length_;
  std::vector<float> conv_weight_, conv_bias_, dt_bias_, a_, d_, state_, ring_, conv_ring_;
};

}  // namespace krait::kernels
