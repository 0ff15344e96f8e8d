#include <grpcpp/grpcpp.h>

#include <chrono>
#include <map>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "common/grpc_status.h"
#include "coordinator/cluster/worker_client.h"
#include "krait/internal/v1/worker.grpc.pb.h"

namespace krait {
namespace {

using internal::v1::GenerateRequest;
using internal::v1::StopChoiceRequest;
using internal::v1::StopChoiceResponse;
using internal::v1::TokenChunk;
using internal::v1::WorkerService;

constexpr absl::Duration kStopChoiceTimeout = absl::Seconds(1);

// What gRPC says when a process dies under a call depends on the moment. Workers use neither of
// these codes themselves, and our own cancellations are not reported to anyone who cares.
absl::Status AsLostWorker(absl::Status status) {
  if (status.code() != absl::StatusCode::kUnknown &&
      status.code() != absl::StatusCode::kCancelled) {
    return status;
  }
  return absl::UnavailableError("the worker's stream broke off");
}

// What the clients of one factory share: their running calls, so that closing a client reaches
// them, and the care for the last channel. A call's context keeps its channel, and gRPC 1.51 aborts
// when the last channel of a process goes away on a thread that runs callbacks (~Channel joins the
// thread it runs on): one channel is kept until every call is over and its context destroyed.
class OpenCalls {
 public:
  using Id = std::pair<int64_t, int64_t>;  // client, call

  int64_t NewClient() {
    absl::MutexLock lock(&mutex_);
    open_clients_.insert(++last_client_);
    return last_client_;
  }
  Id NewCall(int64_t client) {
    absl::MutexLock lock(&mutex_);
    return {client, ++last_call_};
  }
  // False if the client is closed; the call is to be cancelled then. No stream: a short call.
  bool Add(Id id, std::weak_ptr<WorkerStream> stream) {
    absl::MutexLock lock(&mutex_);
    streams_[id] = std::move(stream);
    return open_clients_.count(id.first) > 0;
  }
  // The call's context is gone.
  void Remove(Id id) {
    absl::MutexLock lock(&mutex_);
    streams_.erase(id);
  }
  void Keep(const std::shared_ptr<grpc::Channel>& channel) {
    absl::MutexLock lock(&mutex_);
    if (kept_ == nullptr) kept_ = channel;
  }
  void Close(int64_t client) {
    std::vector<std::weak_ptr<WorkerStream>> streams;
    {
      absl::MutexLock lock(&mutex_);
      open_clients_.erase(client);
      const auto end = streams_.lower_bound({client + 1, 0});
      for (auto it = streams_.lower_bound({client, 0}); it != end; ++it) {
        streams.push_back(it->second);
      }
    }
    Cancel(streams);
  }
  void CloseAllAndWait() {
    std::vector<std::weak_ptr<WorkerStream>> streams;
    {
      absl::MutexLock lock(&mutex_);
      open_clients_.clear();
      for (const auto& [id, stream] : streams_) streams.push_back(stream);
    }
    Cancel(streams);
    // Destroyed here and not with this object, whose last owner may be a call that is just leaving
    // its callback.
    std::shared_ptr<grpc::Channel> last;
    absl::MutexLock lock(&mutex_);
    const auto none = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return streams_.empty(); };
    mutex_.Await(absl::Condition(&none));
    last = std::move(kept_);
  }

 private:
  static void Cancel(const std::vector<std::weak_ptr<WorkerStream>>& streams) {
    for (const auto& weak : streams) {
      if (const auto stream = weak.lock()) stream->Cancel();
    }
  }

  std::shared_ptr<grpc::Channel> kept_ ABSL_GUARDED_BY(mutex_);
  absl::Mutex mutex_;
  int64_t last_client_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t last_call_ ABSL_GUARDED_BY(mutex_) = 0;
  std::set<int64_t> open_clients_ ABSL_GUARDED_BY(mutex_);
  std::map<Id, std::weak_ptr<WorkerStream>> streams_ ABSL_GUARDED_BY(mutex_);
};

void SetDeadline(absl::Duration timeout, grpc::ClientContext& context) {
  context.set_deadline(std::chrono::system_clock::now() + absl::ToChronoMilliseconds(timeout));
}

// One call. Reads are started by whoever consumes the chunks, so a hold keeps the call open between
// them; it is released when no read will follow.
class GrpcWorkerStream final : public WorkerStream,
                               public grpc::ClientReadReactor<TokenChunk>,
                               public std::enable_shared_from_this<GrpcWorkerStream> {
 public:
  GrpcWorkerStream(std::shared_ptr<WorkerStreamObserver> observer, const GenerateRequest& request,
                   std::shared_ptr<WorkerService::Stub> stub, std::shared_ptr<OpenCalls> calls,
                   OpenCalls::Id id)
      : observer_(std::move(observer)),
        request_(request),
        calls_(std::move(calls)),
        id_(id),
        stub_(std::move(stub)) {}

  void Start(absl::Duration timeout) {
    self_ = shared_from_this();
    absl::MutexLock lock(&mutex_);  // a Cancel from elsewhere waits until the call has started
    context_.emplace();
    if (timeout < absl::Hours(24)) SetDeadline(timeout, *context_);
    stub_->async()->Generate(&*context_, &request_, this);
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

  void StopChoice(int choice) override {
    absl::MutexLock lock(&mutex_);
    if (stub_ == nullptr || cancelled_) return;
    const OpenCalls::Id id = calls_->NewCall(id_.first);
    if (!calls_->Add(id, {})) return calls_->Remove(id);
    const auto call = std::make_shared<StopCall>();
    SetDeadline(kStopChoiceTimeout, call->context.emplace());
    call->request.set_request_id(request_.request_id());
    call->request.set_choice(choice);
    stub_->async()->StopChoice(&*call->context, &call->request, &call->response,
                               [call, id, calls = calls_](const grpc::Status&) {
                                 call->context.reset();
                                 calls->Remove(id);
                               });
  }

  void Cancel() override {
    absl::MutexLock lock(&mutex_);
    cancelled_ = true;
    if (context_.has_value()) context_->TryCancel();
    if (!reading_) ReleaseHold();
  }

 private:
  struct StopCall {
    std::optional<grpc::ClientContext> context;
    StopChoiceRequest request;
    StopChoiceResponse response;
  };

  void OnReadDone(bool ok) override {
    {
      absl::MutexLock lock(&mutex_);
      reading_ = false;
      if (!ok || cancelled_) return ReleaseHold();
    }
    observer_->OnChunk(std::move(chunk_));
  }

  void OnDone(const grpc::Status& status) override {
    {
      absl::MutexLock lock(&mutex_);
      context_.reset();
      stub_.reset();  // it keeps the channel too
    }
    observer_->OnEnd(AsLostWorker(FromGrpcStatus(status)));
    const std::shared_ptr<GrpcWorkerStream> last = std::move(self_);
    calls_->Remove(id_);
  }

  void ReleaseHold() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (hold_released_) return;
    hold_released_ = true;
    RemoveHold();
  }

  const std::shared_ptr<WorkerStreamObserver> observer_;
  const GenerateRequest request_;
  const std::shared_ptr<OpenCalls> calls_;
  const OpenCalls::Id id_;
  TokenChunk chunk_;                        // of the read in flight, then the observer's
  std::shared_ptr<GrpcWorkerStream> self_;  // while gRPC refers to this
  absl::Mutex mutex_;
  // From Start until gRPC is done with the call.
  std::optional<grpc::ClientContext> context_ ABSL_GUARDED_BY(mutex_);
  std::shared_ptr<WorkerService::Stub> stub_ ABSL_GUARDED_BY(mutex_);  // until then
  bool reading_ ABSL_GUARDED_BY(mutex_) = true;
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
  bool hold_released_ ABSL_GUARDED_BY(mutex_) = false;
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
  // 64 KiB a stream that is not read. Probing makes megabytes of it on a fast link, and a worker
  // would notice too late that a client does not read.
  arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  return grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
}

class GrpcWorkerClient final : public WorkerClient {
 public:
  GrpcWorkerClient(const std::string& address, std::shared_ptr<OpenCalls> calls)
      : calls_(std::move(calls)),
        id_(calls_->NewClient()),
        channel_(Connect(address)),
        stub_(WorkerService::NewStub(channel_)) {
    calls_->Keep(channel_);
  }

  std::shared_ptr<WorkerStream> Generate(const GenerateRequest& request, absl::Duration timeout,
                                         std::shared_ptr<WorkerStreamObserver> observer) override {
    const OpenCalls::Id id = calls_->NewCall(id_);
    const auto stream =
        std::make_shared<GrpcWorkerStream>(std::move(observer), request, stub_, calls_, id);
    const bool open = calls_->Add(id, stream);
    stream->Start(timeout);
    if (!open) stream->Cancel();
    return stream;
  }

  void Close() override { calls_->Close(id_); }

 private:
  const std::shared_ptr<OpenCalls> calls_;
  const int64_t id_;
  const std::shared_ptr<grpc::Channel> channel_;
  const std::shared_ptr<WorkerService::Stub> stub_;
};

class GrpcWorkerClientFactory final : public WorkerClientFactory {
 public:
  ~GrpcWorkerClientFactory() override { calls_->CloseAllAndWait(); }

  std::shared_ptr<WorkerClient> Create(const std::string& address) override {
    return std::make_shared<GrpcWorkerClient>(address, calls_);
  }

 private:
  const std::shared_ptr<OpenCalls> calls_ = std::make_shared<OpenCalls>();
};

}  // namespace

std::unique_ptr<WorkerClientFactory> MakeGrpcWorkerClientFactory() {
  return std::make_unique<GrpcWorkerClientFactory>();
}

}  // namespace krait
