#pragma once

// A sink that checks the stream's rules while it records: indices without gap or repeat, one end.

#include <vector>

#include "absl/synchronization/notification.h"
#include "gtest/gtest.h"
#include "worker/engine/engine_interface.h"

namespace krait::testing {

class SinkLog final : public TokenSink {
 public:
  void OnTokens(TokenEvent event) override {
    EXPECT_FALSE(ended.HasBeenNotified());
    EXPECT_EQ(event.choice, 0);
    EXPECT_EQ(event.first_index, static_cast<int>(token_ids.size()));
    EXPECT_FALSE(event.token_ids.empty());
    EXPECT_EQ(finish_reason, FinishReason::kNone) << "tokens after the last";
    token_ids.insert(token_ids.end(), event.token_ids.begin(), event.token_ids.end());
    logprobs.insert(logprobs.end(), event.logprobs.begin(), event.logprobs.end());
    finish_reason = event.finish_reason;
    speculation = event.speculation;
  }
  void OnEnd(const absl::Status& end_status) override {
    ASSERT_FALSE(ended.HasBeenNotified()) << "ended twice";
    status = end_status;
    EXPECT_EQ(status.ok(), finish_reason != FinishReason::kNone);
    ended.Notify();
  }

  // The engine thread's until `ended`.
  std::vector<TokenId> token_ids;
  std::vector<PositionLogprobs> logprobs;
  FinishReason finish_reason = FinishReason::kNone;
  SpeculationCounts speculation;
  absl::Status status;
  absl::Notification ended;
};

}  // namespace krait::testing
