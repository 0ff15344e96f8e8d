#pragma once

#include <grpcpp/grpcpp.h>

#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "krait/internal/v1/worker.grpc.pb.h"

namespace krait {

// What a fake worker does with one Generate call, step by step.
struct FakeStep {
  enum class Kind { kChunk, kWaitForRelease, kWaitForCancel, kEnd };
  Kind kind = Kind::kChunk;
  internal::v1::TokenChunk chunk;  // kChunk
  grpc::Status status;             // kEnd
};
using FakeScript = std::vector<FakeStep>;

// Steps of scripts.
FakeStep Chunk(int first_index, std::vector<int> token_ids);
FakeStep LastChunk(int first_index, std::vector<int> token_ids, v1::FinishReason reason);
FakeStep OfChoice(int choice, FakeStep step);
FakeStep WaitForRelease();
FakeStep WaitForCancel();
FakeStep EndWith(grpc::StatusCode code);

// A worker of role TARGET without an engine: a real gRPC server on loopback that plays scripts.
// Each call takes the next script; the last one is played again and again. Thread-safe.
class FakeWorker final : public internal::v1::WorkerService::Service {
 public:
  explicit FakeWorker(std::string name);
  ~FakeWorker() override;  // Release, Kill

  void SetScripts(std::deque<FakeScript> scripts);
  // Lets every WaitForRelease, now and later, go on.
  void Release();
  // Ends the server and all its calls at once, as if the process had died.
  void Kill();

  // What it registers with; fields may be edited.
  internal::v1::RegisterRequest Registration(const std::string& model,
                                             const std::string& tokenizer_digest) const;

  const std::string& address() const { return address_; }
  int calls() const;      // Generate calls so far
  int live() const;       // that have not ended
  int cancelled() const;  // that their caller cancelled
  internal::v1::GenerateRequest last_request() const;
  // Choices that were to be stopped, of all requests.
  std::vector<int> stopped_choices() const;
  // Waits until this many calls have arrived / been cancelled / until none is live. False after 10
  // s.
  bool AwaitCalls(int count) const;
  bool AwaitCancelled(int count) const;
  bool AwaitIdle() const;
  bool AwaitStopped(int count) const;  // choices

 private:
  grpc::Status Generate(grpc::ServerContext* context, const internal::v1::GenerateRequest* request,
                        grpc::ServerWriter<internal::v1::TokenChunk>* writer) override;
  grpc::Status StopChoice(grpc::ServerContext* context,
                          const internal::v1::StopChoiceRequest* request,
                          internal::v1::StopChoiceResponse* response) override;
  grpc::Status Play(const FakeScript& script, grpc::ServerContext* context,
                    grpc::ServerWriter<internal::v1::TokenChunk>* writer);
  FakeScript Begin(const internal::v1::GenerateRequest& request);
  // False if the call was cancelled first.
  bool Wait(const FakeStep& step, grpc::ServerContext* context);

  const std::string name_;
  std::string address_;
  std::unique_ptr<grpc::Server> server_;
  mutable absl::Mutex mutex_;
  std::deque<FakeScript> scripts_ ABSL_GUARDED_BY(mutex_);
  internal::v1::GenerateRequest last_request_ ABSL_GUARDED_BY(mutex_);
  std::vector<int> stopped_choices_ ABSL_GUARDED_BY(mutex_);
  bool released_ ABSL_GUARDED_BY(mutex_) = false;
  int calls_ ABSL_GUARDED_BY(mutex_) = 0;
  int live_ ABSL_GUARDED_BY(mutex_) = 0;
  int cancelled_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace krait
