// Communicators on a GPU: a group of one over NCCL, two ranks on one GPU, both also as recorded
// ops.

#include <gtest/gtest.h>

#include <random>
#include <thread>
#include <vector>

#include "kernels/backend.h"
#include "worker/comm/in_process_communicator.h"
#include "worker/comm/nccl_communicator.h"
#include "worker/comm/nccl_library.h"
#include "worker/comm/peer_communicator.h"

namespace krait::testing {
namespace {

constexpr int64_t kRows = 5, kColumns = 1000;

std::unique_ptr<Backend> Gpu() {
  auto backend = CreateBackend({DeviceKind::kCuda, 0}, 1);
  EXPECT_TRUE(backend.ok()) << backend.status();
  return *std::move(backend);
}

std::vector<float> Gaussian(uint64_t seed) {
  std::mt19937_64 words(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(kRows * kColumns);
  for (float& value : values) value = normal(words);
  return values;
}

// One rank's matrices on the device.
struct Matrices {
  explicit Matrices(Backend& backend)
      : partials{*backend.Allocate(DType::kF32, {1, kRows, kColumns}),
                 *backend.Allocate(DType::kF32, {1, kRows, kColumns})},
        residual(*backend.Allocate(DType::kF32, {kRows, kColumns})),
        out(*backend.Allocate(DType::kF32, {kRows, kColumns})) {}
  // Adds up twice, from two buffers in turns, as a layer does.
  absl::Status Reduce(Communicator& comm) {
    const TensorView from = residual.view(), to = out.view();
    for (int i = 0; i < 2; ++i) {
      const absl::Status status = comm.AllReduceSum({.partials = partials[i].view(),
                                                     .first_block = comm.rank(),
                                                     .num_blocks = comm.size(),
                                                     .residual = i == 0 ? &from : &to,
                                                     .out = to});
      if (!status.ok()) return status;
    }
    return absl::OkStatus();
  }
  Tensor partials[2], residual, out;
};

std::vector<float> Expected(const std::vector<std::vector<float>>& partials,
                            const std::vector<float>& residual) {
  std::vector<float> out = residual;
  for (int i = 0; i < 2; ++i) {
    for (size_t at = 0; at < out.size(); ++at) {
      float sum = partials[i][at];
      for (size_t r = 1; 2 * r < partials.size(); ++r) sum += partials[2 * r + i][at];
      out[at] += sum;
    }
  }
  return out;
}

// Runs `rank` eagerly, then recorded, many times with other numbers. `partials`: of rank 0, twice,
// then of rank 1, twice.
void RunRank(Backend& backend, Communicator& comm, int rounds) {
  Matrices own(backend);
  std::unique_ptr<RecordedOps> recorded;
  for (int round = 0; round < rounds; ++round) {
    std::vector<std::vector<float>> partials;
    for (int i = 0; i < 2 * comm.size(); ++i) partials.push_back(Gaussian(100 * round + i));
    const std::vector<float> residual = Gaussian(100 * round + 99);
    for (int i = 0; i < 2; ++i) {
      backend.CopyFromHost(partials[2 * comm.rank() + i].data(), own.partials[i].view());
    }
    backend.CopyFromHost(residual.data(), own.residual.view());
    if (round == 1) {
      recorded = backend.Record([&] { ASSERT_TRUE(own.Reduce(comm).ok()); });
    }
    if (recorded != nullptr) {
      recorded->Run();
    } else {
      ASSERT_TRUE(own.Reduce(comm).ok());
    }
    ASSERT_TRUE(comm.Await().ok());
    std::vector<float> got(residual.size());
    backend.CopyToHost(own.out.view(), got.data());
    ASSERT_EQ(got, Expected(partials, residual)) << round;
  }
}

TEST(CudaCommTest, AGroupOfOneOverNcclRunsInTheRecordedOps) {
  SetNcclDefaults();
  const auto backend = Gpu();
  const absl::StatusOr<NcclApi*> nccl = LoadNccl();
  ASSERT_TRUE(nccl.ok()) << nccl.status();
  Backend* borrowed = backend.get();
  auto host = std::move(CreateInProcessGroup(absl::MakeConstSpan(&borrowed, 1))[0]);
  auto comm = NcclCommunicator::Start({.unique_id = *NcclUniqueId(*nccl)}, *nccl, borrowed,
                                      std::move(host));
  ASSERT_TRUE(comm.ok()) << comm.status();
  ASSERT_TRUE((*comm)->Await().ok());
  RunRank(*backend, **comm, 20);
  EXPECT_TRUE((*comm)->CheckHealth().ok());
}

struct Two {
  std::unique_ptr<Backend> backends[2] = {Gpu(), Gpu()};
  std::vector<std::unique_ptr<Communicator>> comms;
  explicit Two(absl::Duration wait) {
    Backend* const both[] = {backends[0].get(), backends[1].get()};
    comms = *CreatePeerGroup(both, wait);
  }
};

TEST(CudaCommTest, TwoRanksOnOneGpuAddInRankOrderAlsoRecorded) {
  Two two(absl::Seconds(20));
  std::thread second([&] { RunRank(*two.backends[1], *two.comms[1], 100); });
  RunRank(*two.backends[0], *two.comms[0], 100);
  second.join();
}

TEST(CudaCommTest, APeerThatDoesNotComeIsNotWaitedForBeyondTheLimit) {
  Two two(absl::Milliseconds(500));
  Matrices own(*two.backends[0]);
  ASSERT_TRUE(own.Reduce(*two.comms[0]).ok()) << "it is on its stream";
  EXPECT_EQ(two.comms[0]->Await().code(), absl::StatusCode::kUnavailable);
  two.backends[0]->Synchronize();  // the abort has ended the kernel
  EXPECT_EQ(two.comms[1]->CheckHealth().code(), absl::StatusCode::kUnavailable);
}

}  // namespace
}  // namespace krait::testing
