#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "worker/engine/engine_interface.h"

namespace krait {

// The plain twin of Engine: takes requests and does with them what the test says, no more.
// Thread-safe.
class ScriptedEngine final : public EngineInterface {
 public:
  // What Submit answers from now on; OK accepts.
  void SetSubmitStatus(absl::Status status);
  void SetLoad(const EngineLoad& load);

  // Waits until `request_id` was submitted (CHECK-fails after 10 s) and returns it.
  GenerationRequest WaitForRequest(const std::string& request_id);
  // Waits until `request_id` was aborted, and returns why.
  absl::Status WaitForAbort(const std::string& request_id);
  // Waits until `request_id` is paused, or no more.
  void WaitForPaused(const std::string& request_id, bool paused);
  bool paused(const std::string& request_id) const;
  // Waits until the choice was to be stopped.
  void WaitForStop(const std::string& request_id, int choice);
  int num_pauses(const std::string& request_id) const;  // calls of Pause
  bool draining() const;

  // Sends tokens of a live request's choice, the next `ids.size()` positions.
  void Emit(const std::string& request_id, std::vector<TokenId> ids,
            FinishReason reason = FinishReason::kNone, int choice = 0);
  // Its last event; the id may then be used again.
  void End(const std::string& request_id, const absl::Status& status);

  absl::Status Submit(GenerationRequest request, std::shared_ptr<TokenSink> sink) override;
  void Abort(const std::string& request_id, absl::Status reason) override;
  void StopChoice(const std::string& request_id, int choice) override;
  void Pause(const std::string& request_id) override;
  void Resume(const std::string& request_id) override;
  void Drain() override;
  bool WaitIdle(absl::Duration timeout) override;
  EngineLoad Load() const override;

 private:
  struct Live {
    GenerationRequest request;
    std::shared_ptr<TokenSink> sink;
    std::map<int, int> num_sent;  // of each choice
  };

  mutable absl::Mutex mutex_;
  absl::Status submit_status_ ABSL_GUARDED_BY(mutex_);
  EngineLoad load_ ABSL_GUARDED_BY(mutex_);
  bool draining_ ABSL_GUARDED_BY(mutex_) = false;
  std::map<std::string, Live> live_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, absl::Status> aborted_ ABSL_GUARDED_BY(mutex_);
  std::set<std::pair<std::string, int>> stopped_ ABSL_GUARDED_BY(mutex_);  // choices
  std::set<std::string> paused_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, int> num_pauses_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace krait
