#include "worker/layers/sharding.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace krait {
namespace {

constexpr int64_t kMinMlpBlocks = 12;
constexpr int64_t kVocabUnit = 16;

}  // namespace

Range OwnedVocab(int64_t vocab_size, int rank, int num_ranks) {
  const int64_t num_units = (vocab_size + kVocabUnit - 1) / kVocabUnit;
  // Fewer units than ranks: a tiny vocabulary is cut anywhere.
  if (num_units < num_ranks) return OwnedUnits(vocab_size, rank, num_ranks);
  const Range ids = OwnedUnits(num_units, rank, num_ranks) * kVocabUnit;
  return {ids.begin, std::min(ids.end, vocab_size)};
}

absl::StatusOr<int64_t> MlpBlocks(int64_t intermediate_size, int64_t num_kv_groups) {
  const int64_t at_least = std::max(kMinMlpBlocks, num_kv_groups);
  for (int64_t blocks = at_least; blocks <= intermediate_size; ++blocks) {
    if (intermediate_size % blocks == 0) return blocks;
  }
  return absl::InvalidArgumentError(
      absl::StrCat("intermediate_size must be at least ", at_least, ", got ", intermediate_size));
}

absl::StatusOr<Sharding> MakeSharding(const ShardingDims& dims, int rank, int num_ranks) {
  if (num_ranks < 1 || num_ranks > dims.num_kv_groups) {
    return absl::InvalidArgumentError(absl::StrCat("tensor_parallel_size must be between 1 and ",
                                                   dims.num_kv_groups,
                                                   " (the model's KV heads), got ", num_ranks));
  }
  if (dims.vocab_size < num_ranks) {
    return absl::InvalidArgumentError(absl::StrCat("vocab_size must be at least ", num_ranks,
                                                   " (tensor_parallel_size), got ",
                                                   dims.vocab_size));
  }
  Sharding sharding{.rank = rank, .num_ranks = num_ranks};
  sharding.num_kv_groups = dims.num_kv_groups;
  sharding.kv_groups = OwnedUnits(dims.num_kv_groups, rank, num_ranks);
  ASSIGN_OR_RETURN(sharding.num_mlp_blocks, MlpBlocks(dims.intermediate_size, dims.num_kv_groups));
  sharding.mlp_block_size = dims.intermediate_size / sharding.num_mlp_blocks;
  sharding.mlp_blocks = OwnedUnits(sharding.num_mlp_blocks, rank, num_ranks);
  sharding.vocab_size = dims.vocab_size;
  sharding.vocab = OwnedVocab(dims.vocab_size, rank, num_ranks);
  return sharding;
}

}  // namespace krait
