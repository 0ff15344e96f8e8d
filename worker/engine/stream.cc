#include "worker/engine/stream.h"

#include <utility>

#include "common/logging.h"

namespace krait {
namespace {

FinishReason ReasonOf(StopCause cause) {
  switch (cause) {
    case StopCause::kNone:
      return FinishReason::kNone;
    case StopCause::kStopToken:
      return FinishReason::kStop;
    case StopCause::kMaxTokens:
      return FinishReason::kLength;
  }
  return FinishReason::kNone;
}

}  // namespace

void Stream::Send(Progress progress) {
  CHECK(sink_ != nullptr);
  Choice& choice = choices_.at(progress.choice);
  choice.speculation.proposed += progress.num_drafts;
  choice.speculation.accepted += progress.num_accepted;
  choice.speculation.rounds += progress.num_drafts > 0;
  if (progress.token_ids.empty()) return;
  CHECK_EQ(progress.first_index, choice.num_sent);
  const int num_tokens = static_cast<int>(progress.token_ids.size());
  choice.num_sent += num_tokens;
  num_sent_ += num_tokens;
  finish_reason_ = ReasonOf(progress.stop);
  if (finish_reason_ != FinishReason::kNone) ++num_finished_;
  sink_->OnTokens({.choice = progress.choice,
                   .first_index = progress.first_index,
                   .token_ids = std::move(progress.token_ids),
                   .logprobs = std::move(progress.logprobs),
                   .finish_reason = finish_reason_,
                   .speculation = choice.speculation});
}

void Stream::StopChoice() {
  finish_reason_ = FinishReason::kStop;
  ++num_finished_;
}

// The gap was the reader's doing: it is not a time between two tokens.
void Stream::Resume() {
  paused_since_ = absl::InfiniteDuration();
  for (Choice& choice : choices_) choice.last_sent = absl::InfiniteDuration();
}

void Stream::End(const absl::Status& status) {
  CHECK(sink_ != nullptr) << "a stream ends once";
  CHECK_EQ(status.ok(), complete());
  const std::shared_ptr<TokenSink> sink = std::exchange(sink_, nullptr);
  sink->OnEnd(status);
}

}  // namespace krait
