#pragma once

// What a rank does with its shard of the vocabulary's logits. Every result is either exact in any
// order (maximum, integer sums) or a choice by (value, lowest id), so it depends neither on the
// sharding nor on threads. Rows are independent. Rows and results are spans of host memory: when an
// op with results returns, they are there.

#include <algorithm>
#include <cstdint>

#include "absl/types/span.h"
#include "common/token.h"

namespace krait {

// A row of processed or raw logits of one rank: logits[i] belongs to id(i) = ids ? ids[i] :
// first_id + i.
struct LogitsShard {
  float* logits = nullptr;  // [n], f32, of the backend's device
  int64_t n = 0;
  TokenId first_id = 0;
  const TokenId* ids = nullptr;  // [n], increasing, on the host; null for a contiguous shard
};

// Index of `id` in the shard, or -1 if it belongs to another.
inline int64_t IndexOf(const LogitsShard& shard, TokenId id) {
  if (shard.ids == nullptr) {
    const int64_t index = int64_t{id} - shard.first_id;
    return index >= 0 && index < shard.n ? index : -1;
  }
  const TokenId* at = std::lower_bound(shard.ids, shard.ids + shard.n, id);
  return at != shard.ids + shard.n && *at == id ? at - shard.ids : -1;
}

struct RowMax {
  float max = 0;
  bool finite = true;  // no NaN or infinity in the row
};

// For each of `entries`: l = l + bias. A bias of -infinity makes the token impossible: the ops
// below then give it no mass and never draw it, so long as one logit of the whole row is finite.
struct BiasEntry {
  TokenId id = 0;
  float bias = 0;
};

struct BiasRow {
  LogitsShard shard;
  absl::Span<const BiasEntry> entries;  // each id once; those of other shards are passed over
};

// How often a token has occurred; sorted by id in PenaltyRow.
struct TokenCount {
  TokenId id = 0;
  int32_t output_count = 0;  // in the output; 0: only in the prompt
};

// For each id in `counts`: l = l > 0 ? l / repetition : l * repetition; then, for ids in the
// output, l = l - output_count * frequency - presence.
struct PenaltyRow {
  LogitsShard shard;
  absl::Span<const TokenCount> counts;
  float repetition = 1;
  float presence = 0;
  float frequency = 0;
};

// z = (l - max) / temperature over the row's global maximum; mass = sum of round(exp(z) 2^40).
struct MassRow {
  LogitsShard shard;
  float max = 0;
  float temperature = 1;
};

struct Candidate {
  float logit = 0;
  TokenId id = 0;
};

// The `k` largest logits, ties to the lower id, in falling order.
struct TopRow {
  LogitsShard shard;
  int k = 0;
};

// argmax over the row of z + G(seed, position, id, choice), ties to the lower id, among ids with
// z >= min_z. temperature 0: argmax of the logits, without noise. The noise is common/gumbel.h's.
struct GumbelRow {
  LogitsShard shard;
  float max = 0;          // the row's global maximum
  float temperature = 1;  // 0 or at least 1e-5
  float min_z = 0;        // -infinity: no cut
  uint64_t seed = 0;
  int64_t position = 0;  // absolute position of the drawn token, prompt counted
  uint32_t choice = 0;
};

struct GumbelBest {
  float score = 0;  // z + G; for a greedy row the logit
  TokenId id = -1;  // -1: no id of this shard qualifies
};

}  // namespace krait
