#pragma once

// SinkLog for a request of several choices: each follows the stream's rules by itself, all end
// once.

#include <vector>

#include "absl/synchronization/notification.h"
#include "gtest/gtest.h"
#include "worker/engine/engine_interface.h"

namespace krait::testing {

class ChoicesLog final : public TokenSink {
 public:
  struct Choice {
    std::vector<TokenId> token_ids;
    std::vector<PositionLogprobs> logprobs;
    FinishReason finish_reason = FinishReason::kNone;
    SpeculationCounts speculation;
    bool stopped = false;  // by the test, with StopChoice; set before
  };

  explicit ChoicesLog(int num_choices) : choices(num_choices) {}

  void OnTokens(TokenEvent event) override {
    EXPECT_FALSE(ended.HasBeenNotified());
    ASSERT_LT(event.choice, static_cast<int>(choices.size()));
    Choice& choice = choices[event.choice];
    EXPECT_EQ(event.first_index, static_cast<int>(choice.token_ids.size()));
    EXPECT_EQ(choice.finish_reason, FinishReason::kNone) << "tokens after the last";
    choice.token_ids.insert(choice.token_ids.end(), event.token_ids.begin(), event.token_ids.end());
    choice.logprobs.insert(choice.logprobs.end(), event.logprobs.begin(), event.logprobs.end());
    choice.finish_reason = event.finish_reason;
    choice.speculation = event.speculation;
  }
  void OnEnd(const absl::Status& end_status) override {
    ASSERT_FALSE(ended.HasBeenNotified()) << "ended twice";
    status = end_status;
    bool complete = true;
    for (const Choice& choice : choices) {
      complete &= choice.stopped || choice.finish_reason != FinishReason::kNone;
    }
    EXPECT_EQ(status.ok(), complete);
    ended.Notify();
  }

  // The engine thread's until `ended`.
  std::vector<Choice> choices;
  absl::Status status;
  absl::Notification ended;
};

}  // namespace krait::testing
