#include <grpcpp/grpcpp.h>

#include <atomic>
#include <chrono>
#include <map>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "common/grpc_status.h"
#include "coordinator/cluster/worker_client.h"
#include "krait/internal/v1/worker.grpc.pb.h"

namespace krait {
namespace {

using internal::v1::GenerateRequest;
using internal::v1::TokenChunk;
using internal::v1::WorkerService;

// What gRPC says when a process dies under a call depends on the moment. Workers use neither of
// these codes themselves, and our own cancellations are not reported to anyone who cares.
absl::Status AsLostWorker(absl::Status status) {
  if (status.code() != absl::StatusCode::kUnknown &&
      status.code() != absl::StatusCode::kCancelled) {
    return status;
  }
  return absl::UnavailableError("the worker's stream broke off");
}

// One call. Reads are started by whoever consumes the chunks, so a hold keeps the call open between
// them; it is released when no read will follow.
class GrpcWorkerStream final : public WorkerStream,
                               public grpc::ClientReadReactor<TokenChunk>,
                               public std::enable_shared_from_this<GrpcWorkerStream> {
 public:
  GrpcWorkerStream(std::shared_ptr<WorkerStreamObserver> observer, const GenerateRequest& request)
      : observer_(std::move(observer)), request_(request) {}

  // `on_end` is called after the observer's OnEnd.
  void Start(WorkerService::Stub& stub, absl::Duration timeout, std::function<void()> on_end) {
    self_ = shared_from_this();
    on_end_ = std::move(on_end);
    if (timeout < absl::Hours(24)) {
      context_.set_deadline(std::chrono::system_clock::now() + absl::ToChronoMilliseconds(timeout));
    }
    stub.async()->Generate(&context_, &request_, this);
    AddHold();
    StartRead(&chunk_);
    StartCall();
  }

  void ReadNext() override {
    absl::MutexLock lock(&mutex_);
    if (hold_released_) return;
    reading_ = true;
    StartRead(&chunk_);
  }

  void Cancel() override {
    context_.TryCancel();
    absl::MutexLock lock(&mutex_);
    cancelled_ = true;
    if (!reading_) ReleaseHold();
  }

 private:
  void OnReadDone(bool ok) override {
    {
      absl::MutexLock lock(&mutex_);
      reading_ = false;
      if (!ok || cancelled_) return ReleaseHold();
    }
    observer_->OnChunk(std::move(chunk_));
  }

  void OnDone(const grpc::Status& status) override {
    observer_->OnEnd(AsLostWorker(FromGrpcStatus(status)));
    on_end_();
    self_.reset();  // may delete this
  }

  void ReleaseHold() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (hold_released_) return;
    hold_released_ = true;
    RemoveHold();
  }

  const std::shared_ptr<WorkerStreamObserver> observer_;
  const GenerateRequest request_;
  grpc::ClientContext context_;
  TokenChunk chunk_;  // of the read in flight, then the observer's
  std::function<void()> on_end_;
  std::shared_ptr<GrpcWorkerStream> self_;  // while gRPC refers to this
  absl::Mutex mutex_;
  bool reading_ ABSL_GUARDED_BY(mutex_) = true;
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
  bool hold_released_ ABSL_GUARDED_BY(mutex_) = false;
};

// The streams of one client, so that Close reaches them. Outlives the client while streams end.
class LiveStreams {
 public:
  // False once closed.
  bool Add(int64_t id, std::weak_ptr<WorkerStream> stream) {
    absl::MutexLock lock(&mutex_);
    if (closed_) return false;
    streams_[id] = std::move(stream);
    return true;
  }
  void Remove(int64_t id) {
    absl::MutexLock lock(&mutex_);
    streams_.erase(id);
  }
  void Close() {
    std::map<int64_t, std::weak_ptr<WorkerStream>> streams;
    {
      absl::MutexLock lock(&mutex_);
      closed_ = true;
      streams.swap(streams_);
    }
    for (auto& [id, weak] : streams) {
      if (const auto stream = weak.lock()) stream->Cancel();
    }
  }

 private:
  absl::Mutex mutex_;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  std::map<int64_t, std::weak_ptr<WorkerStream>> streams_ ABSL_GUARDED_BY(mutex_);
};

std::shared_ptr<grpc::Channel> Connect(const std::string& address) {
  grpc::ChannelArguments arguments;
  // A worker that comes back is dialled again at once; a host that vanished is noticed in 15 s.
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 1000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 10'000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 5'000);
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  arguments.SetInt(GRPC_ARG_ENABLE_RETRIES,
                   0);  // the session retries, and knows what was delivered
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  return grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
}

class GrpcWorkerClient final : public WorkerClient {
 public:
  explicit GrpcWorkerClient(const std::string& address)
      : stub_(WorkerService::NewStub(Connect(address))) {}

  std::shared_ptr<WorkerStream> Generate(const GenerateRequest& request, absl::Duration timeout,
                                         std::shared_ptr<WorkerStreamObserver> observer) override {
    const auto stream = std::make_shared<GrpcWorkerStream>(std::move(observer), request);
    const int64_t id = next_id_++;
    const bool open = live_->Add(id, stream);
    stream->Start(*stub_, timeout, [live = live_, id] { live->Remove(id); });
    if (!open) stream->Cancel();
    return stream;
  }

  void Close() override { live_->Close(); }

 private:
  const std::unique_ptr<WorkerService::Stub> stub_;
  const std::shared_ptr<LiveStreams> live_ = std::make_shared<LiveStreams>();
  std::atomic<int64_t> next_id_{0};
};

class GrpcWorkerClientFactory final : public WorkerClientFactory {
 public:
  std::shared_ptr<WorkerClient> Create(const std::string& address) override {
    return std::make_shared<GrpcWorkerClient>(address);
  }
};

}  // namespace

std::unique_ptr<WorkerClientFactory> MakeGrpcWorkerClientFactory() {
  return std::make_unique<GrpcWorkerClientFactory>();
}

}  // namespace krait
