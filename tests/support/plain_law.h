#pragma once

// The law that a row of logits gives, written plainly in double: what every sampler must draw from,
// and what acceptance is computed from.

#include <vector>

#include "worker/sampling/shard_sampler.h"

namespace krait::testing {

// By token id; sums to 1.
using Law = std::vector<double>;

// After logit_bias and the min_tokens mask, penalties, temperature, min_p, top_k and top_p.
Law PlainLaw(std::vector<float> logits, const SampleRow& row);

// Sum of min(p, q): how often a draft drawn from q is accepted.
double Overlap(const Law& p, const Law& q);

}  // namespace krait::testing
