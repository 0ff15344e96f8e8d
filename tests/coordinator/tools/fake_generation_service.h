#pragma once

#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "krait/v1/generation.grpc.pb.h"

namespace krait {

// A coordinator of one method, on a port of its own: answers with max_tokens tokens, one a message,
// whose texts are "a0 ", "a1 ", ... where 0 is the request's number.
class FakeGenerationService final : public v1::GenerationService::Service {
 public:
  FakeGenerationService() {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port_);
    builder.RegisterService(this);
    server_ = builder.BuildAndStart();
  }
  ~FakeGenerationService() override { server_->Shutdown(std::chrono::system_clock::now()); }

  std::string address() const { return absl::StrCat("127.0.0.1:", port_); }
  // What every call ends with, before its first token.
  void Refuse(grpc::Status status) {
    absl::MutexLock lock(&mutex_);
    refusal_ = std::move(status);
  }
  // Streams go on until their client cancels.
  void NeverEnd() {
    absl::MutexLock lock(&mutex_);
    endless_ = true;
  }
  std::vector<v1::GenerateRequest> requests() const {
    absl::MutexLock lock(&mutex_);
    return requests_;
  }
  int most_at_once() const {
    absl::MutexLock lock(&mutex_);
    return most_at_once_;
  }

  grpc::Status Generate(grpc::ServerContext* context, const v1::GenerateRequest* request,
                        grpc::ServerWriter<v1::GenerateResponse>* writer) override {
    int number = 0;
    bool endless = false;
    {
      absl::MutexLock lock(&mutex_);
      number = static_cast<int>(requests_.size());
      endless = endless_;
      requests_.push_back(*request);
      if (!refusal_.ok()) return refusal_;
      most_at_once_ = std::max(most_at_once_, ++num_running_);
    }
    bool alive = true;
    for (int i = 0; alive && (endless || i < request->sampling().max_tokens()); ++i) {
      alive = Write(number, i, i + 1 == request->sampling().max_tokens() && !endless, *writer);
    }
    absl::MutexLock lock(&mutex_);
    --num_running_;
    return alive ? grpc::Status::OK : grpc::Status::CANCELLED;
  }

 private:
  static bool Write(int number, int index, bool last,
                    grpc::ServerWriter<v1::GenerateResponse>& writer) {
    v1::GenerateResponse response;
    response.set_first_index(index);
    response.add_token_ids(index);
    response.set_text(absl::StrCat("a", number, " "));
    if (last) {
      response.set_finish_reason(v1::FINISH_REASON_LENGTH);
      response.mutable_usage()->set_prompt_tokens(5);
    }
    return writer.Write(response);
  }

  int port_ = 0;
  mutable absl::Mutex mutex_;
  grpc::Status refusal_ ABSL_GUARDED_BY(mutex_);
  bool endless_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<v1::GenerateRequest> requests_ ABSL_GUARDED_BY(mutex_);
  int num_running_ ABSL_GUARDED_BY(mutex_) = 0;
  int most_at_once_ ABSL_GUARDED_BY(mutex_) = 0;
  std::unique_ptr<grpc::Server> server_;  // last: its threads use the rest
};

}  // namespace krait
