#pragma once

#include <memory>
#include <string>

#include "absl/time/time.h"
#include "worker/engine/engine_interface.h"
#include "worker/engine/scheduler.h"

namespace krait {

// The caller's end of a live request: what it has been sent, and the one gate it ends by. Engine
// thread only.
class Stream {
 public:
  Stream(std::string request_id, std::shared_ptr<TokenSink> sink, int prompt_tokens,
         absl::Duration submitted)
      : request_id_(std::move(request_id)),
        sink_(std::move(sink)),
        prompt_tokens_(prompt_tokens),
        submitted_(submitted) {}

  // Counts the drafts and sends what was drawn, if anything. `progress` continues what was sent.
  void Send(Progress progress);
  // Ends the stream; a second call is a bug.
  void End(const absl::Status& status);

  const std::string& request_id() const { return request_id_; }
  int prompt_tokens() const { return prompt_tokens_; }
  int num_sent() const { return num_sent_; }
  FinishReason finish_reason() const { return finish_reason_; }
  absl::Duration submitted() const { return submitted_; }
  absl::Duration last_sent = absl::InfiniteDuration();  // infinite: nothing yet

 private:
  const std::string request_id_;
  std::shared_ptr<TokenSink> sink_;  // null once ended
  const int prompt_tokens_;
  const absl::Duration submitted_;
  int num_sent_ = 0;
  SpeculationCounts speculation_;
  FinishReason finish_reason_ = FinishReason::kNone;
};

}  // namespace krait
