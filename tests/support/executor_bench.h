#pragma once

// Rank executors of one checkpoint, driven by hand-made plans; every rank must agree on the result.

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/runner_bench.h"
#include "worker/runner/rank_executor.h"

namespace krait::testing {

class ExecutorBench {
 public:
  ExecutorBench(const std::string& path, int num_ranks,
                const ModelRunnerOptions& options = TinyRunnerOptions())
      : bench_(path, num_ranks, options) {
    for (int r = 0; r < num_ranks; ++r) {
      executors_.push_back(std::make_unique<RankExecutor>(&bench_.runner(r)));
    }
  }

  // Numbers the plan and executes it on every rank; rank 0's answer.
  absl::StatusOr<StepResult> TryStep(StepPlan plan) {
    plan.step_id = next_step_++;
    std::vector<absl::StatusOr<StepResult>> answers(executors_.size(),
                                                    absl::UnknownError("no answer"));
    bench_.ranks().Run([&](int r) {
      answers[r] = executors_[r]->Execute(plan);
      if (!answers[r].ok()) bench_.ranks().comm(r)->Abort();
    });
    for (const auto& answer : answers) {
      if (!answer.ok() || !answers[0].ok()) continue;
      EXPECT_EQ(answer->tokens_hash, answers[0]->tokens_hash);
    }
    return answers[0];
  }

  StepResult Step(StepPlan plan) {
    absl::StatusOr<StepResult> result = TryStep(std::move(plan));
    EXPECT_TRUE(result.ok()) << result.status();
    return result.ok() ? *std::move(result) : StepResult();
  }

  RunnerBench& runners() { return bench_; }
  RankExecutor& executor(int rank) { return *executors_[rank]; }

 private:
  RunnerBench bench_;
  std::vector<std::unique_ptr<RankExecutor>> executors_;
  int64_t next_step_ = 1;
};

// Drafts for a step, given the tokens known so far.
using Drafter = std::function<std::vector<TokenId>(const std::vector<TokenId>& known)>;

// What one generation came to.
struct Generation {
  std::vector<TokenId> tokens;
  std::vector<int> accepted;  // of each step that had drafts
};

// Runs one sequence alone until it has `num_tokens` tokens; prefills in chunks of `chunk`.
inline Generation Generate(ExecutorBench& bench, SequenceStart start, std::vector<PageId> pages,
                           int num_tokens, const Drafter& drafter = nullptr, int chunk = 1000) {
  Generation generation;
  std::vector<TokenId> known = start.prompt;
  const SequenceId id = start.id;
  int left = static_cast<int>(known.size());
  StepPlan plan;
  plan.starts.push_back(std::move(start));
  while (static_cast<int>(generation.tokens.size()) < num_tokens) {
    const bool prefill = generation.tokens.empty();
    SequenceWork work{.id = id,
                      .path = prefill ? ComputePath::kPrefill : ComputePath::kDecode,
                      .new_pages = std::exchange(pages, {})};
    work.num_tokens = std::min(left, chunk);
    left -= work.num_tokens;
    if (!prefill && drafter) work.draft_token_ids = drafter(known);
    const bool drafted = !work.draft_token_ids.empty();
    plan.work.push_back(std::move(work));
    const StepResult result = bench.Step(std::exchange(plan, {}));
    if (result.results.size() != 1) break;
    const SequenceResult& row = result.results[0];
    if (left == 0 && row.token_ids.empty()) break;
    if (drafted) generation.accepted.push_back(row.num_accepted);
    for (const TokenId token : row.token_ids) {
      known.push_back(token);
      generation.tokens.push_back(token);
    }
    if (left == 0) left = 1;
  }
  plan.ends.push_back(id);
  bench.Step(std::move(plan));
  generation.tokens.resize(std::min<size_t>(generation.tokens.size(), num_tokens));
  return generation;
}

}  // namespace krait::testing
