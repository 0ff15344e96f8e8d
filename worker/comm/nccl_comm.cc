#include "worker/comm/nccl_comm.h"

#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "common/logging.h"
#include "common/status_macros.h"
#include "worker/comm/patience.h"

namespace krait {

// Outlives the communicator if NCCL's abort hangs.
struct NcclComm::Shared {
  explicit Shared(NcclApi* api) : api(api) {}

  // NCCL's handle, which nobody else has from now on.
  NcclApi::Comm Take() {
    absl::MutexLock lock(&mutex);
    return std::exchange(comm, nullptr);
  }
  // Waits for a call that is being made.
  void Abort() {
    const NcclApi::Comm taken = Take();
    if (taken != nullptr) api->Abort(taken);
    ended.Notify();
  }

  NcclApi* const api;
  absl::Mutex mutex;  // held while a call is made
  NcclApi::Comm comm ABSL_GUARDED_BY(mutex) = nullptr;
  absl::Notification ended;  // an abort has
};

absl::Status NcclComm::AbortedError() {
  return absl::UnavailableError("the tensor-parallel group was aborted");
}

NcclComm::NcclComm(NcclApi* api, const NcclLimits& limits)
    : limits_(limits), shared_(std::make_shared<Shared>(api)) {}

NcclComm::~NcclComm() {
  if (!aborted_ && Leave()) return;
  Abort();
  if (shared_->ended.WaitForNotificationWithTimeout(limits_.leave)) return;
  LOG(WARNING) << "msg=\"NCCL does not end its abort, left behind\" " << place_;
}

template <typename Call>
absl::Status NcclComm::Do(const char* what, const Call& call) {
  absl::Status status;
  {
    absl::MutexLock lock(&shared_->mutex);
    if (aborted_) return AbortedError();
    const int result = call(shared_->comm);
    if (result == NcclApi::kSuccess || result == NcclApi::kInProgress) return absl::OkStatus();
    status = absl::UnavailableError(absl::StrCat("NCCL, ", place_, ": ", what, ": ",
                                                 shared_->api->Explain(result, shared_->comm)));
  }
  Abort();
  return status;
}

absl::Status NcclComm::Init(int size, const std::string& id, int rank) {
  place_ = absl::StrCat("rank ", rank, " of ", size);
  if (id.size() != NcclApi::kUniqueIdBytes) {
    return absl::InternalError(absl::StrCat("NCCL's unique id has ", id.size(), " bytes, ",
                                            NcclApi::kUniqueIdBytes, " wanted"));
  }
  return Do("ncclCommInitRankConfig",
            [&](NcclApi::Comm& comm) { return shared_->api->InitRank(comm, size, id, rank); });
}

absl::StatusOr<bool> NcclComm::Ready() {
  int state = NcclApi::kSuccess;
  RETURN_IF_ERROR(Do("ncclCommGetAsyncError", [&](NcclApi::Comm& comm) {
    const int result = shared_->api->GetAsyncError(comm, state);
    return result == NcclApi::kSuccess ? state : result;
  }));
  return state != NcclApi::kInProgress;
}

absl::Status NcclComm::AwaitReady(const char* what, Check check) {
  Patience patience(limits_.wait);
  for (;;) {
    ASSIGN_OR_RETURN(const bool ready, Ready());
    if (ready) return absl::OkStatus();
    RETURN_IF_ERROR(check());
    if (!patience.Pause()) break;
  }
  Abort();
  return absl::UnavailableError(absl::StrCat("NCCL, ", place_, ": ", what, " took longer than ",
                                             absl::FormatDuration(limits_.wait)));
}

absl::Status NcclComm::AllGather(const float* send, float* recv, size_t count, void* stream,
                                 Check check) {
  RETURN_IF_ERROR(Do("ncclAllGather", [&](NcclApi::Comm& comm) {
    return shared_->api->AllGather(send, recv, count, comm, stream);
  }));
  return AwaitReady("ncclAllGather", check);
}

void NcclComm::Abort() {
  if (aborted_.exchange(true)) return;
  std::thread([shared = shared_] { shared->Abort(); }).detach();
}

// Whether it has left: everything is done, and the peers need nothing of it.
bool NcclComm::Leave() {
  {
    absl::MutexLock lock(&shared_->mutex);
    if (shared_->comm == nullptr) return true;
  }
  if (!Do("ncclCommFinalize", [&](NcclApi::Comm& comm) {
         return shared_->api->Finalize(comm);
       }).ok()) {
    return false;
  }
  Patience patience(limits_.leave);
  for (;;) {
    const absl::StatusOr<bool> ready = Ready();
    if (!ready.ok()) return false;
    if (*ready) break;
    if (!patience.Pause()) return false;
  }
  shared_->api->Destroy(shared_->Take());
  return true;
}

}  // namespace krait
