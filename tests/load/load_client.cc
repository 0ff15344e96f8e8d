#include "tests/load/load_client.h"

#include <algorithm>

#include "absl/time/clock.h"
#include "common/logging.h"
#include "coordinator/tools/load_call.h"

namespace krait {

class LoadClient::Stream final : public LoadCall {
 public:
  Stream(LoadClient* owner, LoadPlan plan, std::function<void(LoadResult)> on_done)
      : LoadCall(std::move(plan.request)),
        owner_(owner),
        deadline_(plan.deadline),
        cancel_at_chunk_(plan.cancel_at_chunk),
        stall_(plan.stall),
        keep_ids_(plan.keep_ids),
        on_done_(std::move(on_done)) {}

  void Start(v1::GenerationService::Stub& stub) {
    result_.started = absl::Now();
    result_.first_token = absl::InfinitePast();
    if (cancel_at_chunk_ == 0) Cancel();  // before the start: afterwards the stream may be gone
    LoadCall::Start(stub, deadline_, stall_);
  }
  LoadResult TakeResult() { return std::move(result_); }
  std::function<void(LoadResult)> TakeCallback() { return std::move(on_done_); }

 private:
  void OnResponse(const v1::GenerateResponse& response) override {
    if (response.first_index() != result_.num_tokens) result_.in_order = false;
    result_.num_tokens += response.token_ids_size();
    owner_->num_tokens_.fetch_add(response.token_ids_size(), std::memory_order_relaxed);
    if (keep_ids_) {
      result_.token_ids.insert(result_.token_ids.end(), response.token_ids().begin(),
                               response.token_ids().end());
    }
    if (num_chunks_++ == 0) result_.first_token = absl::Now();
    if (num_chunks_ == cancel_at_chunk_) Cancel();
  }

  void OnEnd(const grpc::Status& status) override {
    result_.ended = absl::Now();
    result_.status = status;
    owner_->OnDone(this);
  }

  LoadClient* const owner_;
  const absl::Duration deadline_;
  const int cancel_at_chunk_;
  const bool stall_, keep_ids_;
  std::function<void(LoadResult)> on_done_;
  LoadResult result_;
  int num_chunks_ = 0;
};

LoadClient::LoadClient(const std::string& address, int num_connections, int window)
    : connections_(address, num_connections, window) {}

LoadClient::~LoadClient() {
  Release();
  CancelAll();
  CHECK(WaitIdle(absl::Seconds(60)));
}

void LoadClient::Start(LoadPlan plan, std::function<void(LoadResult)> on_done) {
  auto* stream = new Stream(this, std::move(plan), std::move(on_done));
  {
    absl::MutexLock lock(&mutex_);
    open_.insert(stream);
  }
  stream->Start(connections_.Next());
}

void LoadClient::OnDone(Stream* stream) {
  auto on_done = stream->TakeCallback();
  LoadResult result = stream->TakeResult();
  on_done(std::move(result));  // first: it may start another, and idle means that none will come
  // Its context keeps the channel, which must not go away here (coordinator/cluster's OpenCalls).
  absl::MutexLock lock(&mutex_);
  open_.erase(stream);
  delete stream;
}

void LoadClient::Release() {
  absl::MutexLock lock(&mutex_);
  for (Stream* stream : open_) stream->Release();
}

void LoadClient::CancelAll() {
  absl::MutexLock lock(&mutex_);
  for (Stream* stream : open_) stream->Cancel();
}

bool LoadClient::WaitIdle(absl::Duration timeout) {
  absl::MutexLock lock(&mutex_);
  const auto idle = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return open_.empty(); };
  return mutex_.AwaitWithTimeout(absl::Condition(&idle), timeout);
}

int LoadClient::num_open() const {
  absl::MutexLock lock(&mutex_);
  return static_cast<int>(open_.size());
}

absl::Duration Percentile(std::vector<absl::Duration> values, double fraction) {
  if (values.empty()) return absl::ZeroDuration();
  std::sort(values.begin(), values.end());
  return values[std::min(values.size() - 1, static_cast<size_t>(fraction * values.size()))];
}

}  // namespace krait
