#pragma once

// Readers that take nothing for a while, over and over: each has its request paused after every few
// events, and goes on when told to.

#include <deque>
#include <memory>
#include <string>
#include <utility>

#include "absl/synchronization/mutex.h"
#include "tests/support/sink_log.h"
#include "worker/engine/engine_interface.h"

namespace krait::testing {

// Of one engine's requests, all added before the first ResumeOne. Outlives them.
class SlowReaders {
 public:
  explicit SlowReaders(EngineInterface* engine) : engine_(engine) {}

  // A sink for `request_id` that pauses it after every `events` events and records in `log`.
  std::shared_ptr<TokenSink> Add(std::string request_id, int events, std::shared_ptr<SinkLog> log) {
    absl::MutexLock lock(&mutex_);
    ++num_live_;
    return std::make_shared<Reader>(this, std::move(request_id), events, std::move(log));
  }

  // Waits until `count` of them, or all that have not ended, are paused.
  void AwaitPaused(int count) {
    absl::MutexLock lock(&mutex_);
    const auto reached = [&] { return static_cast<int>(paused_.size()) >= Least(count); };
    mutex_.Await(absl::Condition(&reached));
  }
  // Waits likewise, then resumes the one that has been paused longest. False if all have ended.
  bool ResumeOne(int count) {
    AwaitPaused(count);
    std::string request_id;
    {
      absl::MutexLock lock(&mutex_);
      if (paused_.empty()) return num_live_ > 0;
      request_id = paused_.front();
      paused_.pop_front();
    }
    engine_->Resume(request_id);
    return true;
  }
  int num_pauses() const {
    absl::MutexLock lock(&mutex_);
    return num_pauses_;
  }

 private:
  class Reader final : public TokenSink {
   public:
    Reader(SlowReaders* readers, std::string request_id, int events, std::shared_ptr<SinkLog> log)
        : readers_(readers),
          request_id_(std::move(request_id)),
          events_(events),
          log_(std::move(log)) {}
    void OnTokens(TokenEvent event) override {
      const bool last = event.finish_reason != FinishReason::kNone;
      log_->OnTokens(std::move(event));
      if (!last && ++num_events_ % events_ == 0) readers_->Pause(request_id_);
    }
    void OnEnd(const absl::Status& status) override {
      log_->OnEnd(status);
      readers_->Forget(request_id_);
    }

   private:
    SlowReaders* const readers_;
    const std::string request_id_;
    const int events_;
    const std::shared_ptr<SinkLog> log_;
    int num_events_ = 0;
  };

  int Least(int count) const { return std::min(count, num_live_); }
  void Pause(const std::string& request_id) {
    engine_->Pause(request_id);
    absl::MutexLock lock(&mutex_);
    paused_.push_back(request_id);
    ++num_pauses_;
  }
  void Forget(const std::string& request_id) {
    absl::MutexLock lock(&mutex_);
    std::erase(paused_, request_id);
    --num_live_;
  }

  EngineInterface* const engine_;
  mutable absl::Mutex mutex_;
  std::deque<std::string> paused_ ABSL_GUARDED_BY(mutex_);  // longest first
  int num_live_ ABSL_GUARDED_BY(mutex_) = 0;
  int num_pauses_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace krait::testing
