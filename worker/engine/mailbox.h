#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "worker/engine/engine_interface.h"

namespace krait {

// A request on its way to the engine thread.
struct Submission {
  SequenceId id = 0;  // of the first choice; the others' follow
  GenerationRequest request;
  std::shared_ptr<TokenSink> sink;
  absl::Duration submitted;
};

// Between the threads that submit and abort, and the engine thread: commands in one direction, who
// is live and how loaded the engine is in the other. Bounded by the number of live choices.
// Thread-safe.
class Mailbox {
 public:
  struct Commands {
    std::vector<Submission> submissions;
    // By the first choice's id, as are the aborts: choices to stop, and the last word on whether
    // it is paused.
    std::vector<std::pair<SequenceId, int>> stops;
    absl::flat_hash_map<SequenceId, bool> paused;
    // After the submissions: an abort never overtakes its request.
    std::vector<std::pair<SequenceId, absl::Status>> aborts;
  };

  explicit Mailbox(int max_live) : max_live_(max_live) {}

  // For callers. Errors as EngineInterface has them.
  absl::Status Submit(GenerationRequest request, std::shared_ptr<TokenSink> sink,
                      absl::Duration now);
  void Abort(const std::string& request_id, absl::Status reason);
  void StopChoice(const std::string& request_id, int choice);
  void SetPaused(const std::string& request_id, bool paused);
  void Drain();
  bool WaitIdle(absl::Duration timeout);
  EngineLoad Load() const;

  // No submissions from now on, with `reason` as their error; Take returns at once. The first call
  // counts.
  void Close(const absl::Status& reason);

  // For the engine thread. Moves all commands into `commands`; waits for the first one for at most
  // `timeout`. False once closed, with what had been submitted until then.
  bool Take(absl::Duration timeout, Commands& commands);
  // The request's sink is about to be told of its end. Until Forget its id still means this
  // request, whoever is about to submit the same one waits.
  void BeginEnd(const std::string& request_id);
  // The sink has been told: the id may be used again.
  void Forget(const std::string& request_id);
  // Nothing of the request is left.
  void Ended(int num_choices);
  void SetLoad(const EngineLoad& load);

 private:
  const int max_live_;
  mutable absl::Mutex mutex_;
  Commands commands_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_map<std::string, SequenceId> live_ ABSL_GUARDED_BY(mutex_);
  std::optional<std::string> ending_ ABSL_GUARDED_BY(mutex_);  // of live_
  int num_unended_ ABSL_GUARDED_BY(mutex_) = 0;                // choices
  SequenceId next_id_ ABSL_GUARDED_BY(mutex_) = 1;
  bool draining_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status closed_ ABSL_GUARDED_BY(mutex_);  // not OK: closed
  EngineLoad load_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace krait
