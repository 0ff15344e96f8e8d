#include "common/health_service.h"

namespace krait {
namespace {

using grpc::health::v1::HealthCheckRequest;
using grpc::health::v1::HealthCheckResponse;

constexpr size_t kMaxWatchers = 64;

std::set<std::string> WithWholeServer(const std::vector<std::string>& services) {
  std::set<std::string> all(services.begin(), services.end());
  all.insert("");
  return all;
}

HealthCheckResponse::ServingStatus ToStatus(bool serving) {
  return serving ? HealthCheckResponse::SERVING : HealthCheckResponse::NOT_SERVING;
}

}  // namespace

// One Watch call. One write is outstanding at most; states that change in between are merged.
class HealthService::Watcher final : public grpc::ServerWriteReactor<HealthCheckResponse> {
 public:
  Watcher(HealthService* service, bool known) : service_(service), known_(known) {}

  void Send(bool serving) {
    absl::MutexLock lock(&mutex_);
    wanted_ = known_ ? ToStatus(serving) : HealthCheckResponse::SERVICE_UNKNOWN;
    WriteIfIdle();
  }

  void End(const grpc::Status& status) {
    absl::MutexLock lock(&mutex_);
    if (!finished_) Finish(status);
    finished_ = true;
  }

 private:
  void WriteIfIdle() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (writing_ || finished_ || wanted_ == sent_) return;
    sent_ = wanted_;
    message_.set_status(static_cast<HealthCheckResponse::ServingStatus>(sent_));
    writing_ = true;
    StartWrite(&message_);
  }

  void OnWriteDone(bool ok) override {
    if (!ok) return End(grpc::Status::CANCELLED);
    absl::MutexLock lock(&mutex_);
    writing_ = false;
    WriteIfIdle();
  }
  void OnCancel() override { End(grpc::Status::CANCELLED); }
  void OnDone() override { service_->Forget(this); }

  HealthService* const service_;
  const bool known_;
  absl::Mutex mutex_;
  int wanted_ ABSL_GUARDED_BY(mutex_) = -1;
  int sent_ ABSL_GUARDED_BY(mutex_) = -1;
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  HealthCheckResponse message_;  // the library reads it while writing_
};

HealthService::HealthService(const std::vector<std::string>& services)
    : services_(WithWholeServer(services)) {}

HealthService::~HealthService() = default;

void HealthService::SetServing(bool serving) {
  std::vector<std::shared_ptr<Watcher>> watchers;
  {
    absl::MutexLock lock(&mutex_);
    serving_ = serving;
    for (const auto& [key, watcher] : watchers_) watchers.push_back(watcher);
  }
  for (const auto& watcher : watchers) watcher->Send(serving);
}

void HealthService::Shutdown() {
  std::vector<std::shared_ptr<Watcher>> watchers;
  {
    absl::MutexLock lock(&mutex_);
    shut_down_ = true;
    for (const auto& [key, watcher] : watchers_) watchers.push_back(watcher);
  }
  const grpc::Status status(grpc::StatusCode::UNAVAILABLE, "the server is shutting down");
  for (const auto& watcher : watchers) watcher->End(status);
}

void HealthService::ServeOn(ControlQueue& queue) {
  queue.Serve<HealthService, HealthCheckRequest, HealthCheckResponse>(
      *this, &HealthService::RequestCheck,
      [this](const grpc::ServerContext&, const HealthCheckRequest& request,
             HealthCheckResponse& response) { return Answer(request, response); });
}

absl::Status HealthService::Answer(const HealthCheckRequest& request,
                                   HealthCheckResponse& response) {
  if (services_.count(request.service()) == 0) return absl::NotFoundError("unknown service");
  absl::MutexLock lock(&mutex_);
  response.set_status(ToStatus(serving_));
  return absl::OkStatus();
}

grpc::ServerWriteReactor<HealthCheckResponse>* HealthService::Watch(
    grpc::CallbackServerContext* context, const HealthCheckRequest* request) {
  auto watcher = std::make_shared<Watcher>(this, services_.count(request->service()) > 0);
  bool serving = false;
  bool accepted = false;
  {
    absl::MutexLock lock(&mutex_);
    accepted = !shut_down_ && watchers_.size() < kMaxWatchers;
    watchers_[watcher.get()] = watcher;  // until OnDone, also when it is refused
    serving = serving_;
  }
  if (accepted) {
    watcher->Send(serving);
  } else {
    watcher->End(grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED, "too many watchers"));
  }
  return watcher.get();
}

void HealthService::Forget(Watcher* watcher) {
  std::shared_ptr<Watcher> last;  // destroyed after the lock is released
  absl::MutexLock lock(&mutex_);
  const auto found = watchers_.find(watcher);
  last = std::move(found->second);
  watchers_.erase(found);
}

}  // namespace krait
