#pragma once

// Model runners of one checkpoint on some ranks, with their logits put together.

#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "tests/support/run_ranks.h"
#include "worker/models/model_config.h"
#include "worker/runner/model_runner.h"
#include "worker/weights/checkpoint.h"

namespace krait::testing {

using Logits = std::vector<std::vector<float>>;  // [rows][vocabulary]

inline ModelRunnerOptions TinyRunnerOptions(DType weight_dtype = DType::kF32) {
  return {.weight_dtype = weight_dtype,
          .page_size = 4,
          .num_pages = 128,
          .num_state_slots = 8,
          .max_draft_tokens = 8,
          .max_tokens = 256,
          .max_logits = 256};
}

class RunnerBench {
 public:
  RunnerBench(const std::string& path, int num_ranks,
              const ModelRunnerOptions& options = TinyRunnerOptions(), int threads_per_rank = 1)
      : ranks_(num_ranks, threads_per_rank), runners_(num_ranks) {
    absl::StatusOr<Checkpoint> checkpoint = Checkpoint::Open(path);
    EXPECT_TRUE(checkpoint.ok()) << checkpoint.status();
    absl::StatusOr<ModelConfig> config = ModelConfig::Load(*checkpoint);
    EXPECT_TRUE(config.ok()) << config.status();
    ranks_.Run([&](int r) {
      auto runner =
          ModelRunner::Create(options, *config, *checkpoint, ranks_.backend(r), ranks_.comm(r));
      EXPECT_TRUE(runner.ok()) << runner.status();
      runners_[r] = *std::move(runner);
    });
    EXPECT_TRUE(checkpoint->CheckAllRead().ok()) << checkpoint->CheckAllRead();
  }

  Ranks& ranks() { return ranks_; }
  ModelRunner& runner(int rank) { return *runners_[rank]; }

  // The logits of all ranks side by side, in the order of the head's rows.
  Logits Forward(const std::vector<BatchRow>& rows) {
    std::vector<TensorView> shards(ranks_.size());
    ranks_.Run([&](int r) {
      absl::StatusOr<TensorView> logits = runners_[r]->Forward(rows);
      EXPECT_TRUE(logits.ok()) << logits.status();
      shards[r] = *logits;
    });
    Logits logits(shards[0].dim(0));
    for (size_t row = 0; row < logits.size(); ++row) {
      for (const TensorView& shard : shards) {
        const float* values = shard.row<float>(row);
        logits[row].insert(logits[row].end(), values, values + shard.dim(1));
      }
    }
    return logits;
  }

 private:
  Ranks ranks_;
  std::vector<std::unique_ptr<ModelRunner>> runners_;
};

// A sequence with its pages, fed to a bench piece by piece.
struct TestSequence {
  std::vector<TokenId> tokens;
  std::vector<PageId> pages;
  StateSlotId state_slot = 0;
  int num_computed = 0;
  int state_position = 0;

  // Its next `count` tokens, all final, logits for the last `num_logits` of them.
  BatchRow Next(int count, int num_logits) {
    const BatchRow row{.token_ids = absl::MakeConstSpan(tokens).subspan(num_computed, count),
                       .first_position = num_computed,
                       .page_table = pages,
                       .num_logits = num_logits,
                       .state_slot = state_slot,
                       .final_position = num_computed + count,
                       .state_position = state_position};
    num_computed += count;
    state_position = num_computed;
    return row;
  }
};

inline std::vector<PageId> PageRange(PageId first, int count) {
  std::vector<PageId> pages;
  for (int i = 0; i < count; ++i) pages.push_back(first + i);
  return pages;
}

inline bool SameBits(const Logits& a, const Logits& b) {
  if (a.size() != b.size()) return false;
  for (size_t i = 0; i < a.size(); ++i) {
    if (a[i].size() != b[i].size()) return false;
    if (std::memcmp(a[i].data(), b[i].data(), a[i].size() * sizeof(float)) != 0) return false;
  }
  return true;
}

}  // namespace krait::testing
