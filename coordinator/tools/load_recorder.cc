#include "coordinator/tools/load_recorder.h"

#include <algorithm>
#include <limits>

#include "common/grpc_status.h"

namespace krait {
namespace {

// Without the first token, which has its own figure.
absl::Duration MeanGap(const StreamResult& stream) {
  if (stream.output_tokens < 2) return absl::ZeroDuration();
  return (stream.last - stream.first) / static_cast<double>(stream.output_tokens - 1);
}

bool Within(absl::Duration latency, const std::optional<double>& limit_ms) {
  return !limit_ms.has_value() || latency <= absl::Milliseconds(*limit_ms);
}

std::string CodeName(grpc::StatusCode code) {
  return absl::StatusCodeToString(static_cast<absl::StatusCode>(code));
}

}  // namespace

void LoadRecorder::OpenAt(absl::Duration begin, absl::Duration end) {
  begin_ = begin;
  constexpr int64_t kNever = std::numeric_limits<int64_t>::max();
  end_ns_ = end == absl::InfiniteDuration() ? kNever : absl::ToInt64Nanoseconds(end);
}

void LoadRecorder::CloseAt(absl::Duration end) {
  end_ns_ = std::min(end_ns_.load(), absl::ToInt64Nanoseconds(std::max(end, begin_)));
}

void LoadRecorder::OnTokens(const StreamResult& stream, int tokens, absl::Duration now) {
  if (Measures(now)) tokens_.fetch_add(tokens, std::memory_order_relaxed);
  if (!Measures(stream.intended)) return;
  if (stream.output_tokens == 0) {
    ttft.Record(now - stream.intended);
  } else {
    inter_token.Record((now - stream.last) / tokens, tokens);
  }
}

void LoadRecorder::OnDone(const StreamResult& stream) {
  if (!Measures(stream.intended)) return;
  start_delay.Record(stream.started - stream.intended);
  absl::MutexLock lock(&mutex_);
  Count(stream);
}

void LoadRecorder::Count(const StreamResult& stream) {
  if (stream.code == grpc::StatusCode::OK) {
    ++counts_.completed;
    counts_.good += IsGood(stream);
    counts_.prompt_tokens += stream.prompt_tokens;
    total.Record(stream.ended - stream.intended);
    if (stream.output_tokens > 1) per_token.Record(MeanGap(stream));
    return;
  }
  if (stream.cancelled && stream.code == grpc::StatusCode::CANCELLED) {
    ++counts_.cancelled;
    return;
  }
  ++counts_.errors[CodeName(stream.code)];
  if (stream.code == grpc::StatusCode::RESOURCE_EXHAUSTED && stream.output_tokens == 0) {
    ++counts_.rejected;
    reject.Record(stream.ended - stream.intended);
  } else {
    ++counts_.failed;
  }
}

bool LoadRecorder::IsGood(const StreamResult& stream) const {
  return Within(stream.first - stream.intended, options_.slo_ttft_ms) &&
         Within(MeanGap(stream), options_.slo_itl_ms);
}

LoadCounts LoadRecorder::counts() const {
  absl::MutexLock lock(&mutex_);
  return counts_;
}

}  // namespace krait
