#pragma once

#include <cstddef>
#include <string>

#include "absl/status/statusor.h"

namespace krait {

// What is called of NCCL, one method a call of its C interface: the real library
// (nccl_library.h) or a test's. No method waits for a peer: communicators are made with
// blocking = 0, and are asked how far they are. Results are ncclResult_t's numbers.
//
// Calls of one communicator come one at a time. The current device is the rank's when one is made.
class NcclApi {
 public:
  using Comm = void*;  // ncclComm_t
  static constexpr int kSuccess = 0;
  static constexpr int kInProgress = 7;
  static constexpr size_t kUniqueIdBytes = 128;

  virtual ~NcclApi() = default;
  // ncclGetUniqueId: of a group that is to be formed; one process makes it, all ranks get it.
  virtual int GetUniqueId(std::string& id) = 0;
  // ncclCommInitRankConfig.
  virtual int InitRank(Comm& comm, int size, const std::string& id, int rank) = 0;
  // ncclCommGetAsyncError: kInProgress until the last call has been carried out (a collective: is
  // on its stream); then kSuccess, or what went wrong since.
  virtual int GetAsyncError(Comm comm, int& error) = 0;
  // ncclAllGather of floats. `stream` is a cudaStream_t.
  virtual int AllGather(const float* send, float* recv, size_t count, Comm comm, void* stream) = 0;
  virtual int Finalize(Comm comm) = 0;
  virtual int Destroy(Comm comm) = 0;
  // ncclCommAbort: ends kernels that wait for peers, and frees. May hang; then so does its thread.
  virtual int Abort(Comm comm) = 0;
  // Both texts that NCCL has for an error; `comm` may be null.
  virtual std::string Explain(int result, Comm comm) = 0;
};

}  // namespace krait
