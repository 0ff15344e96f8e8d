#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "worker/engine/engine_interface.h"
#include "worker/engine/scheduler.h"

namespace krait {

// The caller's end of a live request: what it has been sent of each choice, and the one gate that
// all of them end by. Engine thread only.
class Stream {
 public:
  Stream(std::string request_id, std::shared_ptr<TokenSink> sink, int num_choices,
         int prompt_tokens, absl::Duration submitted)
      : request_id_(std::move(request_id)),
        sink_(std::move(sink)),
        prompt_tokens_(prompt_tokens),
        submitted_(submitted),
        choices_(num_choices) {}

  // Counts the drafts and sends what was drawn, if anything. `progress` continues what was sent of
  // its choice.
  void Send(Progress progress);
  // A choice that has not finished is sent no more.
  void StopChoice();
  // Ends the stream; a second call is a bug.
  void End(const absl::Status& status);

  const std::string& request_id() const { return request_id_; }
  int prompt_tokens() const { return prompt_tokens_; }
  int num_choices() const { return static_cast<int>(choices_.size()); }
  int num_sent() const { return num_sent_; }  // of all choices
  // Every choice has had its last token or was stopped.
  bool complete() const { return num_finished_ == num_choices(); }
  FinishReason finish_reason() const { return finish_reason_; }  // of the choice that ended last
  absl::Duration submitted() const { return submitted_; }
  // When the choice was sent something; infinite if nothing yet, or not since a pause.
  absl::Duration& last_sent(int choice) { return choices_[choice].last_sent; }
  // When its reader last had too much; infinite unless it is paused.
  absl::Duration paused_since() const { return paused_since_; }
  void Pause(absl::Duration now) { paused_since_ = now; }
  void Resume();

 private:
  struct Choice {
    int num_sent = 0;
    SpeculationCounts speculation;
    absl::Duration last_sent = absl::InfiniteDuration();
  };

  const std::string request_id_;
  std::shared_ptr<TokenSink> sink_;  // null once ended
  const int prompt_tokens_;
  const absl::Duration submitted_;
  std::vector<Choice> choices_;
  absl::Duration paused_since_ = absl::InfiniteDuration();
  int num_sent_ = 0;
  int num_finished_ = 0;
  FinishReason finish_reason_ = FinishReason::kNone;
};

}  // namespace krait
