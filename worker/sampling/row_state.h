#pragma once

// What ShardSampler knows of its rows on the way to their tokens.

#include <cstdint>
#include <limits>
#include <vector>

#include "common/gumbel.h"
#include "kernels/backend.h"
#include "worker/sampling/shard_sampler.h"

namespace krait {

// What one rank sends about one row first. No padding: the bytes are compared nowhere, but sent.
struct RowHead {
  float max = -std::numeric_limits<float>::infinity();  // processed
  uint32_t finite = 1;                                  // raw
  GumbelBest greedy;
  uint64_t raw_mass = 0;
  int64_t shard_size = 0;
};

// Everything known of one row on the way to its token.
struct RowState {
  const SampleRow* row = nullptr;
  const SamplingParams* params = nullptr;
  LogitsShard shard;
  RowHead head;                     // this rank's, then everyone's
  uint64_t total_mass = 0;          // of the processed row, if filtered or drawn by masses
  std::vector<Candidate> replaced;  // raw logits that processors changed, by rising id
  std::vector<Candidate> raw_top;   // of all ranks
  std::vector<Candidate> top;       // of all ranks, processed, while a cut is sought; then that cut
  int wanted = 0;                   // length of the next candidate list; 0: none wanted
  SampledToken token;

  bool finite() const { return head.finite != 0; }
  bool wants_logprobs() const { return params->num_logprobs >= 0; }
  bool filtered() const { return params->top_k > 0 || params->top_p < 1; }
  bool drawn_by_masses() const { return row->rule != DrawRule::kGumbel && !params->greedy(); }
  int64_t position() const { return row->history.size() + row->drafts.size(); }
};
using RowStates = std::vector<RowState*>;

GumbelKey KeyOf(const RowState& state);

// The row's noise over its own logits, without those below `min_z`. Greedy rows have none.
GumbelRow NoiseRow(const RowState& state, float min_z);

}  // namespace krait
