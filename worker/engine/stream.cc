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
  speculation_.proposed += progress.num_drafts;
  speculation_.accepted += progress.num_accepted;
  speculation_.rounds += progress.num_drafts > 0;
  if (progress.token_ids.empty()) return;
  CHECK_EQ(progress.first_index, num_sent_);
  num_sent_ += static_cast<int>(progress.token_ids.size());
  finish_reason_ = ReasonOf(progress.stop);
  sink_->OnTokens({.first_index = progress.first_index,
                   .token_ids = std::move(progress.token_ids),
                   .logprobs = std::move(progress.logprobs),
                   .finish_reason = finish_reason_,
                   .speculation = speculation_});
}

void Stream::End(const absl::Status& status) {
  CHECK(sink_ != nullptr) << "a stream ends once";
  CHECK_EQ(status.ok(), finish_reason_ != FinishReason::kNone);
  const std::shared_ptr<TokenSink> sink = std::exchange(sink_, nullptr);
  sink->OnEnd(status);
}

}  // namespace krait
