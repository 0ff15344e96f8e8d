#pragma once

#include <atomic>
#include <memory>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "worker/comm/nccl_api.h"

namespace krait {

struct NcclLimits {
  // Of forming the group, and of one wait. A backstop: whoever steps the group has a deadline of
  // his own and calls Abort.
  absl::Duration wait = absl::Minutes(2);
  // Of leaving: then the process ends without NCCL's consent.
  absl::Duration leave = absl::Seconds(2);
};

// One rank's ncclComm_t. Its calls are made one at a time and do not wait; waiting is done here, a
// turn at a time, so that Abort from another thread finds nobody inside NCCL. Errors are
// UNAVAILABLE with NCCL's words, and abort it. Rank thread only, except Abort and aborted.
class NcclComm {
 public:
  // `api` outlives the process's last call of it.
  NcclComm(NcclApi* api, const NcclLimits& limits);
  // Recorded ops that use it are gone by now: NCCL waits for them. What has not been aborted leaves
  // in order. Takes `limits.leave` at most, or what hangs is left behind.
  ~NcclComm();
  NcclComm(const NcclComm&) = delete;

  // Starts to form the group; AwaitReady tells when it is.
  absl::Status Init(int size, const std::string& id, int rank);
  // Whether the group is well but for NCCL: asked in turns while one waits.
  using Check = absl::FunctionRef<absl::Status()>;
  // Puts it on the stream; other calls of the stream may follow at once.
  absl::Status AllGather(const float* send, float* recv, size_t count, void* stream, Check check);
  // Whether NCCL has carried out what it was asked; an error that it met since.
  absl::StatusOr<bool> Ready();
  absl::Status AwaitReady(const char* what, Check check);

  // At once; NCCL's own abort goes on in a thread of its own, as it may hang. Any thread.
  void Abort();
  bool aborted() const { return aborted_; }
  static absl::Status AbortedError();

 private:
  struct Shared;

  template <typename Call>
  absl::Status Do(const char* what, const Call& call);
  bool Leave();

  const NcclLimits limits_;
  const std::shared_ptr<Shared> shared_;  // with the aborting thread
  std::atomic<bool> aborted_{false};
  std::string place_;  // "rank 1 of 2"
};

}  // namespace krait
