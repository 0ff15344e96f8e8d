#include "tests/load/load_client.h"

#include <algorithm>

#include "absl/time/clock.h"
#include "common/logging.h"

namespace krait {

class LoadClient::Stream final : public grpc::ClientReadReactor<v1::GenerateResponse> {
 public:
  Stream(LoadClient* owner, LoadPlan plan, std::function<void(LoadResult)> on_done)
      : owner_(owner), plan_(std::move(plan)), on_done_(std::move(on_done)) {}

  void Start(v1::GenerationService::Stub& stub) {
    result_.started = absl::Now();
    result_.first_token = absl::InfinitePast();
    context_.set_deadline(std::chrono::system_clock::now() +
                          absl::ToChronoMilliseconds(plan_.deadline));
    stub.async()->Generate(&context_, &plan_.request, this);
    if (plan_.stall) {
      AddHold();
    } else {
      StartRead(&response_);
    }
    const bool cancel = plan_.cancel_at_chunk == 0;
    if (cancel) context_.TryCancel();  // before the start: afterwards the stream may be gone
    StartCall();
  }

  void Release() {
    if (!plan_.stall || released_.exchange(true)) return;
    StartRead(&response_);
    RemoveHold();
  }
  void Cancel() { context_.TryCancel(); }
  LoadResult TakeResult() { return std::move(result_); }
  std::function<void(LoadResult)> TakeCallback() { return std::move(on_done_); }

 private:
  void OnReadDone(bool ok) override {
    if (!ok) return;
    if (response_.first_index() != result_.num_tokens) result_.in_order = false;
    result_.num_tokens += response_.token_ids_size();
    owner_->num_tokens_.fetch_add(response_.token_ids_size(), std::memory_order_relaxed);
    if (plan_.keep_ids) {
      result_.token_ids.insert(result_.token_ids.end(), response_.token_ids().begin(),
                               response_.token_ids().end());
    }
    if (num_chunks_++ == 0) result_.first_token = absl::Now();
    if (num_chunks_ == plan_.cancel_at_chunk) context_.TryCancel();
    StartRead(&response_);
  }

  void OnDone(const grpc::Status& status) override {
    result_.ended = absl::Now();
    result_.status = status;
    owner_->OnDone(this);
  }

  LoadClient* const owner_;
  const LoadPlan plan_;
  std::function<void(LoadResult)> on_done_;
  grpc::ClientContext context_;
  v1::GenerateResponse response_;
  LoadResult result_;
  int num_chunks_ = 0;
  std::atomic<bool> released_{false};
};

LoadClient::LoadClient(const std::string& address, int num_connections, int window) {
  for (int i = 0; i < num_connections; ++i) {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);  // a connection of its own
    arguments.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);
    if (window > 0) {
      arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
      arguments.SetInt(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, window);
    }
    channels_.push_back(
        grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments));
    stubs_.push_back(v1::GenerationService::NewStub(channels_.back()));
  }
}

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
  stream->Start(*stubs_[next_stub_++ % stubs_.size()]);
}

void LoadClient::OnDone(Stream* stream) {
  auto on_done = stream->TakeCallback();
  LoadResult result = stream->TakeResult();
  on_done(std::move(result));  // first: it may start another, and idle means that none will come
  // Its context keeps the channel, which must not go away here (coordinator/cluster's OpenCalls).
  absl::MutexLock lock(&mutex_);
  delete stream;
  open_.erase(stream);
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
