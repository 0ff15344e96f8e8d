#include "worker/engine/mailbox.h"

#include "absl/strings/str_cat.h"

namespace krait {

absl::Status Mailbox::Submit(GenerationRequest request, std::shared_ptr<TokenSink> sink,
                             absl::Duration now) {
  absl::MutexLock lock(&mutex_);
  const auto settled = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return ending_ != request.request_id;
  };
  mutex_.Await(absl::Condition(&settled));
  if (!closed_.ok()) return closed_;
  if (draining_) return absl::UnavailableError("draining");
  if (live_.contains(request.request_id)) {
    return absl::AlreadyExistsError("request_id: a request with this id is live");
  }
  if (num_unended_ + request.num_choices > max_live_) {
    return absl::ResourceExhaustedError(
        absl::StrCat("queue: ", num_unended_, " live sequences, at most ", max_live_));
  }
  const SequenceId id = next_id_;
  next_id_ += request.num_choices;
  live_.emplace(request.request_id, id);
  num_unended_ += request.num_choices;
  commands_.submissions.push_back({id, std::move(request), std::move(sink), now});
  return absl::OkStatus();
}

void Mailbox::Abort(const std::string& request_id, absl::Status reason) {
  absl::MutexLock lock(&mutex_);
  const auto it = live_.find(request_id);
  if (it == live_.end()) return;
  if (reason.ok()) reason = absl::CancelledError("aborted");
  commands_.aborts.emplace_back(it->second, std::move(reason));
}

void Mailbox::StopChoice(const std::string& request_id, int choice) {
  absl::MutexLock lock(&mutex_);
  const auto it = live_.find(request_id);
  if (it != live_.end()) commands_.stops.emplace_back(it->second, choice);
}

void Mailbox::SetPaused(const std::string& request_id, bool paused) {
  absl::MutexLock lock(&mutex_);
  const auto it = live_.find(request_id);
  if (it != live_.end()) commands_.paused[it->second] = paused;
}

void Mailbox::Drain() {
  absl::MutexLock lock(&mutex_);
  draining_ = true;
}

bool Mailbox::WaitIdle(absl::Duration timeout) {
  absl::MutexLock lock(&mutex_);
  const auto idle = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return num_unended_ == 0; };
  return mutex_.AwaitWithTimeout(absl::Condition(&idle), timeout);
}

EngineLoad Mailbox::Load() const {
  absl::MutexLock lock(&mutex_);
  EngineLoad load = load_;
  for (const Submission& submission : commands_.submissions) {
    load.waiting += submission.request.num_choices;
  }
  return load;
}

void Mailbox::Close(const absl::Status& reason) {
  absl::MutexLock lock(&mutex_);
  if (closed_.ok()) closed_ = reason;
}

bool Mailbox::Take(absl::Duration timeout, Commands& commands) {
  absl::MutexLock lock(&mutex_);
  const auto ready = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return !closed_.ok() || !commands_.submissions.empty() || !commands_.stops.empty() ||
           !commands_.paused.empty() || !commands_.aborts.empty();
  };
  if (timeout > absl::ZeroDuration()) mutex_.AwaitWithTimeout(absl::Condition(&ready), timeout);
  commands = std::exchange(commands_, {});
  return closed_.ok();
}

void Mailbox::BeginEnd(const std::string& request_id) {
  absl::MutexLock lock(&mutex_);
  ending_ = request_id;
}

void Mailbox::Forget(const std::string& request_id) {
  absl::MutexLock lock(&mutex_);
  ending_.reset();
  live_.erase(request_id);
}

void Mailbox::Ended(int num_choices) {
  absl::MutexLock lock(&mutex_);
  num_unended_ -= num_choices;
}

void Mailbox::SetLoad(const EngineLoad& load) {
  absl::MutexLock lock(&mutex_);
  load_ = load;
}

}  // namespace krait
