#pragma once

#include <utility>
#include <vector>

#include "absl/synchronization/notification.h"
#include "worker/engine/engine_interface.h"

namespace krait {

// Keeps one generation. Written by the engine thread until `ended`, then read by who waited.
class CollectingSink final : public TokenSink {
 public:
  void OnTokens(TokenEvent event) override {
    token_ids.insert(token_ids.end(), event.token_ids.begin(), event.token_ids.end());
    logprobs.insert(logprobs.end(), event.logprobs.begin(), event.logprobs.end());
    finish_reason = event.finish_reason;
    speculation = event.speculation;
  }
  void OnEnd(const absl::Status& end_status) override {
    status = end_status;
    ended.Notify();
  }

  std::vector<TokenId> token_ids;
  std::vector<PositionLogprobs> logprobs;
  FinishReason finish_reason = FinishReason::kNone;
  SpeculationCounts speculation;
  absl::Status status;
  absl::Notification ended;
};

}  // namespace krait
