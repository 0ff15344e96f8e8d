#pragma once

#include <cstddef>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/status_macros.h"
#include "worker/sampling/shard_sampler.h"

namespace krait {

// The ranks' side of one Sample call: plain items, gathered from all. Rank thread only.
class ShardExchange {
 public:
  ShardExchange(int num_ranks, ShardSampler::Gather gather)
      : num_ranks_(num_ranks), gather_(gather) {}

  int num_ranks() const { return num_ranks_; }

  // Everyone's items, rank after rank; the same number on every rank. Fails only if the gather
  // fails.
  template <typename T>
  absl::StatusOr<std::vector<T>> GatherItems(const std::vector<T>& items) const {
    std::vector<T> all(items.size() * num_ranks_);
    RETURN_IF_ERROR(
        gather_({reinterpret_cast<const std::byte*>(items.data()), items.size() * sizeof(T)},
                absl::MakeSpan(reinterpret_cast<std::byte*>(all.data()), all.size() * sizeof(T))));
    return all;
  }

 private:
  const int num_ranks_;
  const ShardSampler::Gather gather_;
};

}  // namespace krait
