#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "worker/comm/nccl_api.h"

namespace krait::testing {

// NCCL between the threads of a test, on host memory. Everything is in progress until all ranks
// have come to it, as with blocking = 0; the last to come carries it out. CHECK-fails where NCCL's
// rules are broken: a call of a communicator that is gone, two calls of one at a time.
class FakeNccl final : public NcclApi {
 public:
  static constexpr int kSystemError = 2;
  static constexpr int kRemoteError = 6;

  int GetUniqueId(std::string& id) override;
  int InitRank(Comm& comm, int size, const std::string& id, int rank) override;
  int GetAsyncError(Comm comm, int& error) override;
  int AllGather(const float* send, float* recv, size_t count, Comm comm, void* stream) override;
  int Finalize(Comm comm) override;
  int Destroy(Comm comm) override;
  int Abort(Comm comm) override;
  std::string Explain(int result, Comm comm) override;

  // What a rank's next InitRank gives, before it makes anything.
  void FailInit(int result);
  // What GetAsyncError reports of `rank` from now on, in every group.
  void SetAsyncError(int rank, int error);
  // Whether Abort waits until this is false again.
  void HangAborts(bool hang);
  // Whether Finalize stays in progress.
  void HangFinalize(bool hang);

  // Names of the calls of a rank but for GetAsyncError, in order.
  std::vector<std::string> calls(int rank);
  int num_alive();  // communicators

 private:
  struct Group;
  struct Rank;
  class Call;

  absl::Mutex mutex_;
  int next_id_ = 0;
  std::map<std::string, std::shared_ptr<Group>> groups_;  // by unique id
  std::map<Comm, std::unique_ptr<Rank>> alive_;
  std::map<int, std::vector<std::string>> calls_;
  std::map<int, int> async_errors_;
  int fail_init_ = kSuccess;
  bool hang_aborts_ = false;
  bool hang_finalize_ = false;
};

}  // namespace krait::testing
