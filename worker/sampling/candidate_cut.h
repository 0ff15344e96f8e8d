#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/types/span.h"
#include "kernels/ops/sampling.h"

namespace krait {

// The filters of one row: min_p, then top_k, then top_p. Pure functions of gathered data, so every
// rank decides the same.
struct CutParams {
  float max = 0;  // the row's largest logit
  float temperature = 1;
  float min_z = 0;          // z below this are dropped; -infinity: none
  int top_k = 0;            // 0: off
  float top_p = 1;          // 1: off
  uint64_t total_mass = 0;  // of the whole row; used where top_p alone is on
};

// The natural logarithm of min_p, the limit z is compared with; -infinity for 0.
float MinZ(float min_p);

// top_p in units of 2^-32.
uint64_t TopPShare(float top_p);

// Lists of several ranks, each in falling order, as one in falling order, ties to the lower id.
std::vector<Candidate> MergeCandidates(absl::Span<const Candidate> candidates);

// Fixed-point exp(z) of candidates, as Backend::ExpMass rounds it.
using MassFunction = absl::FunctionRef<std::vector<uint64_t>(absl::Span<const Candidate>)>;

// How many of `top`, the row's largest logits in falling order, may be drawn; nothing if more of
// the row must be seen to tell. `complete`: there are no others.
std::optional<size_t> CutCandidates(const CutParams& params, absl::Span<const Candidate> top,
                                    bool complete, MassFunction masses);

}  // namespace krait
