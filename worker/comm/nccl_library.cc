#include "worker/comm/nccl_library.h"

#include <cstdlib>

#if KRAIT_CUDA
#include <dlfcn.h>
#include <nccl.h>

#include <cstring>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#endif

namespace krait {

void SetNcclDefaults() { setenv("NCCL_NVLS_ENABLE", "0", /*overwrite=*/0); }

#if !KRAIT_CUDA

absl::StatusOr<NcclApi*> LoadNccl() {
  return absl::FailedPreconditionError("no NCCL: this build has no CUDA (CMake preset cuda)");
}

#else

namespace {

static_assert(NcclApi::kSuccess == ncclSuccess && NcclApi::kInProgress == ncclInProgress &&
              NcclApi::kUniqueIdBytes == NCCL_UNIQUE_ID_BYTES);

constexpr char kLibrary[] = "libnccl.so.2";

// The functions as nccl.h declares them.
struct Functions {
  decltype(&ncclGetUniqueId) get_unique_id;
  decltype(&ncclCommInitRankConfig) init_rank;
  decltype(&ncclCommGetAsyncError) get_async_error;
  decltype(&ncclAllGather) all_gather;
  decltype(&ncclCommFinalize) finalize;
  decltype(&ncclCommDestroy) destroy;
  decltype(&ncclCommAbort) abort;
  decltype(&ncclGetErrorString) get_error_string;
  decltype(&ncclGetLastError) get_last_error;
};

template <typename Function>
absl::Status Find(void* library, const char* name, Function& function) {
  function = reinterpret_cast<Function>(dlsym(library, name));
  if (function != nullptr) return absl::OkStatus();
  return absl::UnavailableError(absl::StrCat(kLibrary, " has no ", name));
}

absl::StatusOr<Functions> FindAll(void* library) {
  Functions found;
  RETURN_IF_ERROR(Find(library, "ncclGetUniqueId", found.get_unique_id));
  RETURN_IF_ERROR(Find(library, "ncclCommInitRankConfig", found.init_rank));
  RETURN_IF_ERROR(Find(library, "ncclCommGetAsyncError", found.get_async_error));
  RETURN_IF_ERROR(Find(library, "ncclAllGather", found.all_gather));
  RETURN_IF_ERROR(Find(library, "ncclCommFinalize", found.finalize));
  RETURN_IF_ERROR(Find(library, "ncclCommDestroy", found.destroy));
  RETURN_IF_ERROR(Find(library, "ncclCommAbort", found.abort));
  RETURN_IF_ERROR(Find(library, "ncclGetErrorString", found.get_error_string));
  RETURN_IF_ERROR(Find(library, "ncclGetLastError", found.get_last_error));
  return found;
}

ncclComm_t Of(NcclApi::Comm comm) { return static_cast<ncclComm_t>(comm); }

class NcclLibrary final : public NcclApi {
 public:
  explicit NcclLibrary(const Functions& nccl) : nccl_(nccl) {}

  int GetUniqueId(std::string& id) override {
    ncclUniqueId made;
    const ncclResult_t result = nccl_.get_unique_id(&made);
    id.assign(made.internal, sizeof(made.internal));
    return result;
  }
  int InitRank(Comm& comm, int size, const std::string& id, int rank) override {
    ncclUniqueId of_group;
    std::memcpy(of_group.internal, id.data(), sizeof(of_group.internal));
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    ncclComm_t made = nullptr;
    const ncclResult_t result = nccl_.init_rank(&made, size, of_group, rank, &config);
    comm = made;
    return result;
  }
  int GetAsyncError(Comm comm, int& error) override {
    ncclResult_t state = ncclSuccess;
    const ncclResult_t result = nccl_.get_async_error(Of(comm), &state);
    error = state;
    return result;
  }
  int AllGather(const float* send, float* recv, size_t count, Comm comm, void* stream) override {
    return nccl_.all_gather(send, recv, count, ncclFloat, Of(comm),
                            static_cast<cudaStream_t>(stream));
  }
  int Finalize(Comm comm) override { return nccl_.finalize(Of(comm)); }
  int Destroy(Comm comm) override { return nccl_.destroy(Of(comm)); }
  int Abort(Comm comm) override { return nccl_.abort(Of(comm)); }
  std::string Explain(int result, Comm comm) override {
    const char* last = nccl_.get_last_error(Of(comm));
    return absl::StrCat(nccl_.get_error_string(static_cast<ncclResult_t>(result)),
                        last == nullptr || *last == '\0' ? "" : ": ", last == nullptr ? "" : last);
  }

 private:
  const Functions nccl_;
};

absl::StatusOr<NcclApi*> Load() {
  void* library = dlopen(kLibrary, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    return absl::UnavailableError(absl::StrCat("ranks on several GPUs need NCCL: ", dlerror()));
  }
  ASSIGN_OR_RETURN(const Functions functions, FindAll(library));
  return new NcclLibrary(functions);
}

}  // namespace

absl::StatusOr<NcclApi*> LoadNccl() {
  static const absl::StatusOr<NcclApi*> loaded = Load();
  return loaded;
}

#endif

}  // namespace krait
