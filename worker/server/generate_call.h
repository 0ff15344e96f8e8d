#pragma once

#include <grpcpp/grpcpp.h>

#include <deque>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "krait/internal/v1/worker.pb.h"
#include "worker/engine/engine_interface.h"

namespace krait {

// One Generate stream: the engine puts tokens in, gRPC takes them out at the client's speed. What
// arrives while a write is under way is merged into one chunk a choice. Once kPauseEntries pile up
// the request is paused, until what is left is at most kResumeEntries: so a step's tokens are all
// that can come on top. Thread-safe.
//
// Lives until both sides are done: gRPC until OnDone (it keeps itself alive), the engine as its
// sink.
class GenerateCall final : public grpc::ServerWriteReactor<internal::v1::TokenChunk>,
                           public TokenSink {
 public:
  // Token ids and logprobs of one stream, not yet taken by the transport.
  static constexpr int kPauseEntries = 4096;
  static constexpr int kResumeEntries = 1024;

  // A call that stays alive until gRPC is done with it.
  static std::shared_ptr<GenerateCall> Create(EngineInterface* engine, std::string request_id);

  // The engine took the request: from now on a cancelled call aborts it.
  void SetAccepted();

  // TokenSink; engine thread.
  void OnTokens(TokenEvent event) override;
  void OnEnd(const absl::Status& status) override;

  // gRPC's threads.
  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

 private:
  GenerateCall(EngineInterface* engine, std::string request_id)
      : engine_(engine), request_id_(std::move(request_id)) {}

  void AbortLocked(absl::Status reason) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Advance() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The chunk that waits for `choice`, made if there is none.
  internal::v1::TokenChunk& PendingOf(int choice) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Break(absl::Status reason) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void SetPaused() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  EngineInterface* const engine_;
  const std::string request_id_;
  std::shared_ptr<GenerateCall> self_;  // until OnDone

  absl::Mutex mutex_;
  // Of each choice at most one, in the order they will be written.
  std::deque<internal::v1::TokenChunk> pending_ ABSL_GUARDED_BY(mutex_);
  int num_entries_ ABSL_GUARDED_BY(mutex_) = 0;  // of pending_ and writing_
  bool paused_ ABSL_GUARDED_BY(mutex_) = false;
  internal::v1::TokenChunk writing_;  // gRPC reads it while write_under_way_
  bool write_under_way_ ABSL_GUARDED_BY(mutex_) = false;
  bool accepted_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status abort_reason_ ABSL_GUARDED_BY(mutex_);  // not OK: to abort once it is accepted
  bool broken_ ABSL_GUARDED_BY(mutex_) = false;        // nobody reads any more
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status end_status_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace krait
