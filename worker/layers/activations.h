#pragma once

#include "absl/status/statusor.h"
#include "kernels/backend.h"

namespace krait {

// The widths of what flows between layers on one rank.
struct ActivationDims {
  int64_t max_tokens = 0;  // of a pass
  int64_t max_logits = 0;  // rows of a pass
  int64_t hidden_size = 0;
  int64_t projected_width = 0;       // of what a mixer projects x to: q, k, v, or z, x, B, C, dt
  int64_t convolved_width = 0;       // own x, B and C of a Mamba2 layer; 0 without
  int64_t steps_width = 0;           // own dt of a Mamba1 layer; 0 without
  int64_t mixed_width = 0;           // of what goes into a mixer's output projection
  int64_t intermediate = 0;          // own part
  int64_t mixer_blocks = 0;          // of o_proj that go into its sum; 0 for a group of one
  int64_t mlp_blocks = 0;            // of down_proj, likewise
  DType linear_input = DType::kF32;  // of what goes into products (Backend::linear_input)
};

// A rank's memory for one pass, allocated once and shared by all layers in turn. Views are of the
// first `num_tokens` rows. Rank thread only.
class Activations {
 public:
  // RESOURCE_EXHAUSTED names the bytes.
  static absl::StatusOr<Activations> Create(const ActivationDims& dims, Backend* backend);

  TensorView hidden(int64_t num_tokens) const { return hidden_.view().Rows(0, num_tokens); }
  TensorView normed(int64_t num_tokens) const { return normed_.view().Rows(0, num_tokens); }
  // The widest mixer's; a mixer takes its first columns.
  TensorView projected(int64_t num_tokens, int64_t width) const {
    return projected_.view().Rows(0, num_tokens).Columns(0, width);
  }
  TensorView convolved(int64_t num_tokens) const { return convolved_.view().Rows(0, num_tokens); }
  TensorView steps(int64_t num_tokens) const { return steps_.view().Rows(0, num_tokens); }
  TensorView mixed(int64_t num_tokens, int64_t width) const {
    return mixed_.view().Rows(0, num_tokens).Columns(0, width);
  }
  TensorView gate_up(int64_t num_tokens) const { return gate_up_.view().Rows(0, num_tokens); }
  TensorView mlp(int64_t num_tokens) const { return mlp_.view().Rows(0, num_tokens); }
  TensorView last(int64_t num_logits) const { return last_.view().Rows(0, num_logits); }
  // Two, because a reduction's partial sums must rest until the next one (BlockReduction).
  float* mixer_partials() const { return mixer_partials_.ptr<float>(); }
  float* mlp_partials() const { return mlp_partials_.ptr<float>(); }

 private:
  Activations() = default;

  Tensor hidden_;          // [max_tokens, hidden_size]: the residual stream
  Tensor normed_;          // [max_tokens or max_logits, hidden_size], linear_input
  Tensor projected_;       // [max_tokens, projected_width]
  Tensor convolved_;       // [max_tokens, convolved_width]
  Tensor steps_;           // [max_tokens, steps_width]
  Tensor mixed_;           // [max_tokens, mixed_width], linear_input
  Tensor gate_up_;         // [max_tokens, 2 intermediate]
  Tensor mlp_;             // [max_tokens, intermediate], linear_input
  Tensor last_;            // [max_logits, hidden_size]: rows whose logits are wanted
  Tensor mixer_partials_;  // [mixer_blocks, max_tokens, hidden_size]
  Tensor mlp_partials_;    // [mlp_blocks, max_tokens, hidden_size]
};

}  // namespace krait
