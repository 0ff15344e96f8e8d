#pragma once

#include <gtest/gtest.h>

#include <string>

#include "tests/e2e/cluster_harness.h"

namespace krait {

// A target "target" of so many ranks whose draft is the worker "draft", always asked for 4 tokens.
inline void AddDraftPair(Cluster& cluster, const std::string& draft_model,
                         int tensor_parallel_size = 1) {
  const std::string draft_address = cluster.AddDraft("draft", draft_model).listen();
  WorkerConfig& target = cluster.AddTarget("target", tensor_parallel_size);
  target.set_draft_address(draft_address);
  target.set_max_draft_tokens(4);
  target.set_fixed_draft_tokens(true);
  target.set_proposal_deadline_ms(200);  // two cores run three processes and a compiler here
}

inline bool DraftConnected(const v1::ListWorkersResponse& workers) {
  for (const auto& worker : workers.workers()) {
    if (worker.draft_connected()) return true;
  }
  return false;
}

// Tokens, logprobs and text, bit for bit, of two that both ended well.
inline void ExpectSame(const GenerateOutcome& a, const GenerateOutcome& b) {
  EXPECT_TRUE(a.status.ok()) << a.status.error_message();
  EXPECT_TRUE(b.status.ok()) << b.status.error_message();
  EXPECT_EQ(a.token_ids, b.token_ids);
  EXPECT_EQ(a.logprobs, b.logprobs);
  EXPECT_EQ(a.text, b.text);
}

}  // namespace krait
