#pragma once

// Tiny hybrids of attention, Mamba1 and Mamba2 layers, beside tests/support/tiny_checkpoint.h.

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "tests/support/tiny_checkpoint.h"

namespace krait::testing {

struct HybridOptions {
  // One letter a layer: 'A' attention, '1' Mamba1, '2' Mamba2.
  std::string mixers = "2A2A";
  // Projections as one tensor (mamba.in_proj, mha.in_proj) or one each; Mamba2 has one always.
  bool fused = false;
  // num_layers is mixers' length; head_dim a multiple of 8: also Mamba2's and Mamba1's state.
  TinyModelOptions base;
};

// Both mixers beside attention, and large enough that a stream of a thousand tokens takes a good
// part of a second: what whole clusters serve in tests.
HybridOptions ServedHybridOptions();

// Gaussian weights like MakeTinyModel's; states that neither die out nor swamp the rest.
TinyModel MakeHybridModel(const HybridOptions& options);

// Replaces every weight by the function of (seed, name, index) that hybrid_oracle.py computes.
void FillByCounter(TinyModel& model, uint64_t seed);
// hybrid_oracle.py's uniforms(seed, name, count), in [-1, 1).
std::vector<double> CounterUniforms(uint64_t seed, const std::string& name, int64_t count);

// WriteTinyFolder, and mamba_config.json as released hybrids have it.
absl::Status WriteHybridFolder(const TinyModel& model, const HybridOptions& options,
                               const std::string& dir, DType dtype = DType::kF32);

}  // namespace krait::testing
