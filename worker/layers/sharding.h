#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "common/owned_units.h"

namespace krait {

// The numbers a decoder's sharding follows from; all of the model.
struct ShardingDims {
  int64_t num_kv_groups = 0;  // KV heads
  int64_t intermediate_size = 0;
  int64_t vocab_size = 0;
};

// Which part of a decoder one rank owns. The units are the model's, never the degree's, so that
// any degree up to the number of KV groups works, also one that does not divide it, and every
// degree adds the same blocks in the same order.
struct Sharding {
  int rank = 0;
  int num_ranks = 1;

  // Attention: whole KV groups, with their query heads. Each group is one block of o_proj's sum.
  int64_t num_kv_groups = 0;
  Range kv_groups;

  // MLP: the intermediate dimension in equal blocks, each one block of down_proj's sum.
  int64_t num_mlp_blocks = 0;
  int64_t mlp_block_size = 0;
  Range mlp_blocks;
  int64_t intermediate_size() const { return num_mlp_blocks * mlp_block_size; }
  Range intermediate() const { return mlp_blocks * mlp_block_size; }

  // Embedding and head: near-equal consecutive ids, cut at multiples of 16 (whole vectors).
  int64_t vocab_size = 0;
  Range vocab;
};

// INVALID_ARGUMENT names tensor_parallel_size and the limit, or the dimension that cannot be cut.
absl::StatusOr<Sharding> MakeSharding(const ShardingDims& dims, int rank, int num_ranks);

// Rows of the vocabulary (or of a reduced one) that a rank owns.
Range OwnedVocab(int64_t vocab_size, int rank, int num_ranks);

// The number of blocks an MLP's intermediate dimension is cut into: the smallest divisor that is at
// least 12 (many degrees divide it) and at least the number of KV groups (each rank owns some).
absl::StatusOr<int64_t> MlpBlocks(int64_t intermediate_size, int64_t num_kv_groups);

}  // namespace krait
