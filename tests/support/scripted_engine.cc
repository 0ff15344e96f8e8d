#include "tests/support/scripted_engine.h"

#include <utility>

#include "common/logging.h"

namespace krait {
namespace {

constexpr absl::Duration kPatience = absl::Seconds(10);

}  // namespace

void ScriptedEngine::SetSubmitStatus(absl::Status status) {
  absl::MutexLock lock(&mutex_);
  submit_status_ = std::move(status);
}

void ScriptedEngine::SetLoad(const EngineLoad& load) {
  absl::MutexLock lock(&mutex_);
  load_ = load;
}

GenerationRequest ScriptedEngine::WaitForRequest(const std::string& request_id) {
  absl::MutexLock lock(&mutex_);
  const auto there = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return live_.count(request_id) > 0;
  };
  CHECK(mutex_.AwaitWithTimeout(absl::Condition(&there), kPatience)) << request_id;
  return live_.at(request_id).request;
}

absl::Status ScriptedEngine::WaitForAbort(const std::string& request_id) {
  absl::MutexLock lock(&mutex_);
  const auto there = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return aborted_.count(request_id) > 0;
  };
  CHECK(mutex_.AwaitWithTimeout(absl::Condition(&there), kPatience)) << request_id;
  return aborted_.at(request_id);
}

void ScriptedEngine::WaitForPaused(const std::string& request_id, bool paused) {
  absl::MutexLock lock(&mutex_);
  const auto there = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return (paused_.count(request_id) > 0) == paused;
  };
  CHECK(mutex_.AwaitWithTimeout(absl::Condition(&there), kPatience)) << request_id;
}

bool ScriptedEngine::paused(const std::string& request_id) const {
  absl::MutexLock lock(&mutex_);
  return paused_.count(request_id) > 0;
}

int ScriptedEngine::num_pauses(const std::string& request_id) const {
  absl::MutexLock lock(&mutex_);
  const auto found = num_pauses_.find(request_id);
  return found == num_pauses_.end() ? 0 : found->second;
}

bool ScriptedEngine::draining() const {
  absl::MutexLock lock(&mutex_);
  return draining_;
}

void ScriptedEngine::Emit(const std::string& request_id, std::vector<TokenId> ids,
                          FinishReason reason, int choice) {
  std::shared_ptr<TokenSink> sink;
  TokenEvent event;
  {
    absl::MutexLock lock(&mutex_);
    Live& live = live_.at(request_id);
    sink = live.sink;
    event.choice = choice;
    event.first_index = live.num_sent[choice];
    live.num_sent[choice] += static_cast<int>(ids.size());
  }
  event.token_ids = std::move(ids);
  event.finish_reason = reason;
  sink->OnTokens(std::move(event));
}

void ScriptedEngine::End(const std::string& request_id, const absl::Status& status) {
  std::shared_ptr<TokenSink> sink;
  {
    absl::MutexLock lock(&mutex_);
    sink = std::move(live_.at(request_id).sink);
    live_.erase(request_id);
  }
  sink->OnEnd(status);
}

absl::Status ScriptedEngine::Submit(GenerationRequest request, std::shared_ptr<TokenSink> sink) {
  absl::MutexLock lock(&mutex_);
  if (!submit_status_.ok()) return submit_status_;
  if (draining_) return absl::UnavailableError("draining");
  const std::string id = request.request_id;
  if (live_.count(id) > 0) return absl::AlreadyExistsError(id);
  live_[id] = {std::move(request), std::move(sink)};
  return absl::OkStatus();
}

void ScriptedEngine::Abort(const std::string& request_id, absl::Status reason) {
  absl::MutexLock lock(&mutex_);
  aborted_[request_id] = std::move(reason);
}

void ScriptedEngine::StopChoice(const std::string& request_id, int choice) {
  absl::MutexLock lock(&mutex_);
  stopped_.emplace(request_id, choice);
}

void ScriptedEngine::WaitForStop(const std::string& request_id, int choice) {
  absl::MutexLock lock(&mutex_);
  const auto there = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return stopped_.count({request_id, choice}) > 0;
  };
  CHECK(mutex_.AwaitWithTimeout(absl::Condition(&there), kPatience)) << request_id;
}

void ScriptedEngine::Pause(const std::string& request_id) {
  absl::MutexLock lock(&mutex_);
  if (live_.count(request_id) == 0) return;
  paused_.insert(request_id);
  ++num_pauses_[request_id];
}

void ScriptedEngine::Resume(const std::string& request_id) {
  absl::MutexLock lock(&mutex_);
  paused_.erase(request_id);
}

void ScriptedEngine::Drain() {
  absl::MutexLock lock(&mutex_);
  draining_ = true;
}

bool ScriptedEngine::WaitIdle(absl::Duration timeout) {
  absl::MutexLock lock(&mutex_);
  const auto idle = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return live_.empty(); };
  return mutex_.AwaitWithTimeout(absl::Condition(&idle), timeout);
}

EngineLoad ScriptedEngine::Load() const {
  absl::MutexLock lock(&mutex_);
  return load_;
}

}  // namespace krait
