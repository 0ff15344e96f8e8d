#include "tests/load/paced_engine.h"

#include <algorithm>

#include "common/prefix_hash.h"

namespace krait {
namespace {

// Printable ASCII in the byte-level vocabularies of the tests and of SmolLM2 alike.
constexpr int kFirstToken = 40;
constexpr int kNumTokens = 50;
// Deadlines of requests that are all paused are looked at this often.
constexpr absl::Duration kPausedTick = absl::Milliseconds(20);

uint64_t HashOf(const GenerationRequest& request) {
  return ExtendPrefixHash(PrefixHash(request.prompt), static_cast<TokenId>(request.sampling.seed));
}

}  // namespace

PacedEngine::PacedEngine(const PacedOptions& options, const Clock* clock)
    : options_(options), clock_(clock) {
  thread_ = std::thread([this] { Run(); });
}

PacedEngine::~PacedEngine() {
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
    draining_ = true;
  }
  thread_.join();
  for (auto& [id, live] : live_) live.sink->OnEnd(absl::UnavailableError("the engine stops"));
}

absl::Status PacedEngine::Submit(GenerationRequest request, std::shared_ptr<TokenSink> sink) {
  absl::MutexLock lock(&mutex_);
  if (draining_) return absl::UnavailableError("the worker is draining");
  if (static_cast<int>(waiting_.size()) >= options_.max_waiting) {
    return absl::ResourceExhaustedError("max_waiting: the worker's queue is full");
  }
  const std::string id = request.request_id;
  const auto [it, fresh] = live_.try_emplace(id);
  if (!fresh) return absl::AlreadyExistsError("request_id: a live request has this id");
  it->second.hash = HashOf(request);
  it->second.request = std::move(request);
  it->second.sink = std::move(sink);
  waiting_.push_back(id);
  return absl::OkStatus();
}

void PacedEngine::Abort(const std::string& request_id, absl::Status reason) {
  absl::MutexLock lock(&mutex_);
  const auto found = live_.find(request_id);
  if (found == live_.end()) return;
  found->second.aborted = std::move(reason);
  SetPaused(found->second, false);
}

void PacedEngine::StopChoice(const std::string& request_id, int choice) {
  absl::MutexLock lock(&mutex_);
  const auto found = live_.find(request_id);
  if (found == live_.end() || choice != 0) return;
  found->second.stopped = true;
  SetPaused(found->second, false);
}

void PacedEngine::Pause(const std::string& request_id) {
  absl::MutexLock lock(&mutex_);
  const auto found = live_.find(request_id);
  if (found != live_.end() && found->second.aborted.ok()) SetPaused(found->second, true);
}

void PacedEngine::Resume(const std::string& request_id) {
  absl::MutexLock lock(&mutex_);
  const auto found = live_.find(request_id);
  if (found != live_.end()) SetPaused(found->second, false);
}

void PacedEngine::SetPaused(Live& live, bool paused) {
  num_paused_ += paused - live.paused;
  live.paused = paused;
}

void PacedEngine::Drain() {
  absl::MutexLock lock(&mutex_);
  draining_ = true;
}

bool PacedEngine::WaitIdle(absl::Duration timeout) {
  absl::MutexLock lock(&mutex_);
  const auto idle = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return live_.empty() && !delivering_;
  };
  return mutex_.AwaitWithTimeout(absl::Condition(&idle), timeout);
}

EngineLoad PacedEngine::Load() const {
  absl::MutexLock lock(&mutex_);
  EngineLoad load;
  load.running = num_running_;
  load.waiting = static_cast<int>(waiting_.size());
  load.paused = num_paused_;
  load.max_running = options_.max_running;
  load.max_waiting = options_.max_waiting;
  return load;
}

void PacedEngine::Run() {
  absl::Duration next = clock_->Now();
  for (;;) {
    std::vector<std::function<void()>> deliveries;
    {
      absl::MutexLock lock(&mutex_);
      mutex_.AwaitWithTimeout(absl::Condition(this, &PacedEngine::HasWork),
                              live_.empty() ? absl::InfiniteDuration() : kPausedTick);
      // A step takes its time whether requests come or not.
      next = std::max(next + options_.step, clock_->Now());
      mutex_.AwaitWithTimeout(absl::Condition(&stopping_), next - clock_->Now());
      if (stopping_) return;
      Admit();
      deliveries = Step();
      delivering_ = true;
    }
    for (auto& deliver : deliveries) deliver();
    absl::MutexLock lock(&mutex_);
    delivering_ = false;
  }
}

void PacedEngine::Admit() {
  while (!waiting_.empty() && num_running_ < options_.max_running) {
    const auto found = live_.find(waiting_.front());
    waiting_.pop_front();
    if (found == live_.end()) continue;
    found->second.running = true;
    ++num_running_;
  }
}

std::vector<std::function<void()>> PacedEngine::Step() {
  std::vector<std::function<void()>> deliveries;
  const absl::Duration now = clock_->Now();
  for (auto it = live_.begin(); it != live_.end();) {
    Live& live = it->second;
    absl::Status end = live.aborted;
    if (end.ok() && now >= live.request.deadline) end = absl::DeadlineExceededError("deadline");
    bool over = !end.ok() || live.stopped;
    if (!over && live.running && !live.paused) {
      TokenEvent event = NextTokens(live);
      over = event.finish_reason != FinishReason::kNone;
      deliveries.push_back([sink = live.sink, event = std::move(event)]() mutable {
        sink->OnTokens(std::move(event));
      });
    }
    if (!over) {
      ++it;
      continue;
    }
    num_running_ -= live.running;
    SetPaused(live, false);
    if (!live.running) std::erase(waiting_, it->first);
    deliveries.push_back([sink = std::move(live.sink), end] { sink->OnEnd(end); });
    it = live_.erase(it);
  }
  return deliveries;
}

TokenEvent PacedEngine::NextTokens(Live& live) const {
  TokenEvent event;
  event.first_index = live.num_sent;
  const int left = live.request.stop.max_tokens - live.num_sent;
  for (int i = 0; i < std::min(left, options_.tokens_per_step); ++i) {
    const uint64_t hash = ExtendPrefixHash(live.hash, live.num_sent++);
    event.token_ids.push_back(kFirstToken + static_cast<TokenId>(hash % kNumTokens));
  }
  if (live.num_sent == live.request.stop.max_tokens) event.finish_reason = FinishReason::kLength;
  return event;
}

}  // namespace krait
