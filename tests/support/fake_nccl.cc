#include "tests/support/fake_nccl.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/logging.h"

namespace krait::testing {

// What one rank has put on its stream.
struct Gather {
  const float* send = nullptr;
  float* recv = nullptr;
  size_t count = 0;
};

struct FakeNccl::Group {
  explicit Group(int size) : joined(size), gathers(size) {}
  bool formed() const { return std::count(joined.begin(), joined.end(), true) == size(); }
  int size() const { return static_cast<int>(joined.size()); }
  // Once all ranks have come.
  void GatherAll() {
    for (const Gather& to : gathers) {
      CHECK_EQ(to.count, gathers[0].count) << "ranks make different calls";
      for (int r = 0; r < size(); ++r) {
        std::memcpy(to.recv + r * to.count, gathers[r].send, to.count * sizeof(float));
      }
    }
    num_gathered = 0;
    ++num_rounds;
  }

  std::vector<bool> joined;
  std::vector<Gather> gathers;
  int num_gathered = 0;
  int num_rounds = 0;   // that are over
  bool broken = false;  // a rank has aborted
};

struct FakeNccl::Rank {
  std::shared_ptr<Group> group;
  int rank = 0;
  int num_rounds = 0;  // that it has come to
  bool in_call = false;
  bool finalizing = false;
};

// A call of a living communicator, while it lasts.
class FakeNccl::Call {
 public:
  Call(FakeNccl& nccl, Comm comm, const char* name) : rank(Find(nccl, comm)) {
    CHECK(!rank.in_call) << "two calls of one communicator at a time";
    rank.in_call = true;
    if (name != nullptr) nccl.calls_[rank.rank].push_back(name);
  }
  ~Call() { rank.in_call = false; }

  Rank& rank;

 private:
  static Rank& Find(FakeNccl& nccl, Comm comm) {
    const auto found = nccl.alive_.find(comm);
    CHECK(found != nccl.alive_.end()) << "a call of a communicator that is gone";
    return *found->second;
  }
};

int FakeNccl::GetUniqueId(std::string& id) {
  absl::MutexLock lock(&mutex_);
  id = absl::StrCat("fake group ", next_id_++);
  id.resize(kUniqueIdBytes);
  return kSuccess;
}

int FakeNccl::InitRank(Comm& comm, int size, const std::string& id, int rank) {
  CHECK_EQ(id.size(), kUniqueIdBytes);
  absl::MutexLock lock(&mutex_);
  calls_[rank].push_back("InitRank");
  if (fail_init_ != kSuccess) return fail_init_;
  auto& group = groups_[id];
  if (group == nullptr) group = std::make_shared<Group>(size);
  CHECK_EQ(group->size(), size);
  CHECK(!group->joined[rank]) << "a rank twice";
  group->joined[rank] = true;
  auto made = std::make_unique<Rank>(Rank{.group = group, .rank = rank});
  comm = made.get();
  alive_[comm] = std::move(made);
  return kInProgress;
}

int FakeNccl::GetAsyncError(Comm comm, int& error) {
  absl::MutexLock lock(&mutex_);
  const Call call(*this, comm, nullptr);
  const Rank& rank = call.rank;
  const auto failed = async_errors_.find(rank.rank);
  const bool done = rank.group->formed() && rank.num_rounds == rank.group->num_rounds &&
                    !(rank.finalizing && hang_finalize_);
  error = failed != async_errors_.end() ? failed->second : done ? kSuccess : kInProgress;
  return kSuccess;
}

int FakeNccl::AllGather(const float* send, float* recv, size_t count, Comm comm, void*) {
  absl::MutexLock lock(&mutex_);
  const Call call(*this, comm, "AllGather");
  Group& group = *call.rank.group;
  CHECK(group.formed()) << "used before it was formed";
  CHECK_EQ(call.rank.num_rounds++, group.num_rounds) << "the last one is still in progress";
  group.gathers[call.rank.rank] = {send, recv, count};
  if (++group.num_gathered == group.size() && !group.broken) group.GatherAll();
  return kInProgress;
}

int FakeNccl::Finalize(Comm comm) {
  absl::MutexLock lock(&mutex_);
  const Call call(*this, comm, "Finalize");
  call.rank.finalizing = true;
  return kInProgress;
}

int FakeNccl::Destroy(Comm comm) {
  absl::MutexLock lock(&mutex_);
  { const Call call(*this, comm, "Destroy"); }
  alive_.erase(comm);
  return kSuccess;
}

int FakeNccl::Abort(Comm comm) {
  absl::MutexLock lock(&mutex_);
  { const Call call(*this, comm, "Abort"); }
  alive_[comm]->group->broken = true;
  mutex_.Await(absl::Condition(
      +[](bool* hang) { return !*hang; }, &hang_aborts_));
  alive_.erase(comm);
  return kSuccess;
}

std::string FakeNccl::Explain(int result, Comm comm) {
  return absl::StrCat("error ", result, comm == nullptr ? "" : " of a communicator");
}

void FakeNccl::FailInit(int result) {
  absl::MutexLock lock(&mutex_);
  fail_init_ = result;
}

void FakeNccl::SetAsyncError(int rank, int error) {
  absl::MutexLock lock(&mutex_);
  async_errors_[rank] = error;
}

void FakeNccl::HangAborts(bool hang) {
  absl::MutexLock lock(&mutex_);
  hang_aborts_ = hang;
}

void FakeNccl::HangFinalize(bool hang) {
  absl::MutexLock lock(&mutex_);
  hang_finalize_ = hang;
}

std::vector<std::string> FakeNccl::calls(int rank) {
  absl::MutexLock lock(&mutex_);
  return calls_[rank];
}

int FakeNccl::num_alive() {
  absl::MutexLock lock(&mutex_);
  return static_cast<int>(alive_.size());
}

}  // namespace krait::testing
