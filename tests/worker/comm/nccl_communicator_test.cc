// What NcclCommunicator does when things go wrong, against a fake of NCCL. What every communicator
// does: communicator_test.cc.

#include "worker/comm/nccl_communicator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <thread>

#include "absl/time/clock.h"
#include "tests/support/fake_nccl.h"
#include "tests/support/gpu_stand_in.h"
#include "worker/comm/in_process_communicator.h"
#include "worker/comm/nccl_library.h"

namespace krait::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr NcclLimits kShort = {.wait = absl::Milliseconds(200), .leave = absl::Milliseconds(200)};

// A group of two whose ranks are made one by one, each on the thread of its caller.
class Pair {
 public:
  Pair() {
    Backend* const backends[] = {&backends_[0], &backends_[1]};
    hosts_ = CreateInProcessGroup(backends);
  }

  absl::Status Start(int rank, const NcclLimits& limits = {}) { return Start(rank, limits, id_); }
  absl::Status Start(int rank, const NcclLimits& limits, const std::string& id) {
    auto comm =
        NcclCommunicator::Start({.rank = rank, .size = 2, .unique_id = id, .limits = limits},
                                &nccl_, &backends_[rank], std::move(hosts_[rank]));
    if (comm.ok()) comms_[rank] = *std::move(comm);
    return comm.status();
  }
  void Form(const NcclLimits& limits = {}) {
    for (int r = 0; r < 2; ++r) ASSERT_TRUE(Start(r, limits).ok());
    for (int r = 0; r < 2; ++r) ASSERT_TRUE(comms_[r]->Await().ok());
  }
  absl::Status Reduce(int rank) {
    return comms_[rank]->AllReduceSum({.partials = TensorView(&own_[rank], DType::kF32, {1, 1, 1}),
                                       .first_block = rank,
                                       .num_blocks = 2,
                                       .out = TensorView(&sum_[rank], DType::kF32, {1, 1})});
  }

  FakeNccl& nccl() { return nccl_; }
  GpuStandIn& backend(int rank) { return backends_[rank]; }
  Communicator& comm(int rank) { return *comms_[rank]; }
  void Destroy(int rank) { comms_[rank].reset(); }

 private:
  FakeNccl nccl_;
  const std::string id_ = *NcclUniqueId(&nccl_);
  GpuStandIn backends_[2] = {GpuStandIn(0), GpuStandIn(1)};
  std::vector<std::unique_ptr<Communicator>> hosts_;
  std::unique_ptr<Communicator> comms_[2];
  float own_[2] = {1, 2}, sum_[2] = {};
};

void ExpectAborted(const absl::Status& status) {
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()), HasSubstr("was aborted"));
}

TEST(NcclCommunicatorTest, ItIsFormedOnceTheLastRankHasCome) {
  Pair pair;
  ASSERT_TRUE(pair.Start(0).ok());
  EXPECT_TRUE(pair.comm(0).CheckHealth().ok()) << "being formed is no fault";
  std::thread late([&pair] {
    absl::SleepFor(absl::Milliseconds(30));
    ASSERT_TRUE(pair.Start(1).ok());
    EXPECT_TRUE(pair.comm(1).Await().ok());
  });
  EXPECT_TRUE(pair.comm(0).Await().ok());
  late.join();
}

TEST(NcclCommunicatorTest, ARankThatNeverComesIsUnavailableAfterTheLimit) {
  Pair pair;
  ASSERT_TRUE(pair.Start(0, kShort).ok());
  const absl::Status status = pair.comm(0).Await();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()), HasSubstr("rank 0 of 2: to form the group took longer "
                                                       "than 200ms"));
  ExpectAborted(pair.comm(0).Await());
  pair.Destroy(0);
  EXPECT_THAT(pair.nccl().calls(0), ElementsAre("InitRank", "Abort"));
}

TEST(NcclCommunicatorTest, AnIdOfAnotherGroupFormsNone) {
  Pair pair;
  ASSERT_TRUE(pair.Start(0, kShort).ok());
  ASSERT_TRUE(pair.Start(1, kShort, *NcclUniqueId(&pair.nccl())).ok());
  EXPECT_FALSE(pair.comm(0).Await().ok());
  EXPECT_FALSE(pair.comm(1).Await().ok());
}

TEST(NcclCommunicatorTest, AnIdOfTheWrongSizeIsRefused) {
  Pair pair;
  const absl::Status status = pair.Start(0, {}, "short");
  EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
  EXPECT_THAT(std::string(status.message()), HasSubstr("5 bytes, 128 wanted"));
  EXPECT_THAT(pair.nccl().calls(0), ElementsAre());
}

TEST(NcclCommunicatorTest, WhatNcclRefusesIsSaidInItsWords) {
  Pair pair;
  pair.nccl().FailInit(FakeNccl::kSystemError);
  const absl::Status status = pair.Start(1);
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(status.message(), "NCCL, rank 1 of 2: ncclCommInitRankConfig: error 2");
  EXPECT_EQ(pair.nccl().num_alive(), 0);
}

TEST(NcclCommunicatorTest, AnErrorMetLaterIsFoundByEveryCallAndAborts) {
  Pair pair;
  pair.Form();
  pair.nccl().SetAsyncError(0, FakeNccl::kRemoteError);
  EXPECT_TRUE(pair.comm(1).CheckHealth().ok());
  const absl::Status status = pair.comm(0).CheckHealth();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()), HasSubstr("error 6 of a communicator"));
  ExpectAborted(pair.Reduce(0));
  ExpectAborted(pair.comm(0).Await());
  std::byte send{}, recv[2];
  ExpectAborted(pair.comm(0).AllGather(absl::MakeConstSpan(&send, 1), absl::MakeSpan(recv)));
  ExpectAborted(pair.comm(1).CheckHealth());  // they have the host's group in common
  pair.Destroy(0);
  EXPECT_THAT(pair.nccl().calls(0), ElementsAre("InitRank", "Abort"));
}

TEST(NcclCommunicatorTest, AnErrorInASumEndsIt) {
  Pair pair;
  pair.Form();
  std::thread fails([&pair] {
    absl::SleepFor(absl::Milliseconds(30));
    pair.nccl().SetAsyncError(0, FakeNccl::kRemoteError);
  });
  EXPECT_THAT(std::string(pair.Reduce(0).message()), HasSubstr("error 6"));
  fails.join();
}

TEST(NcclCommunicatorTest, APeerThatDoesNotComeToASumIsUnavailableAfterTheLimit) {
  Pair pair;
  pair.Form(kShort);
  const absl::Status status = pair.Reduce(0);
  EXPECT_THAT(std::string(status.message()), HasSubstr("ncclAllGather took longer than 200ms"));
  ExpectAborted(pair.Reduce(0));
}

TEST(NcclCommunicatorTest, ADeviceThatWaitsForALostPeerIsNotWaitedForBeyondTheLimit) {
  Pair pair;
  pair.Form(kShort);
  pair.backend(0).stuck = true;
  const absl::Status status = pair.comm(0).Await();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(status.message(), "cuda:0 has not run its ops within 200ms");
  pair.Destroy(0);
  EXPECT_THAT(pair.nccl().calls(0), ElementsAre("InitRank", "Abort"));
}

TEST(NcclCommunicatorTest, AbortWakesWhoWaitsForTheDevice) {
  Pair pair;
  pair.Form();
  pair.backend(0).stuck = true;
  std::thread aborts([&pair] {
    absl::SleepFor(absl::Milliseconds(30));
    pair.comm(0).Abort();
  });
  ExpectAborted(pair.comm(0).Await());
  aborts.join();
}

TEST(NcclCommunicatorTest, AbortWakesWhoWaitsForTheGroupToForm) {
  Pair pair;
  ASSERT_TRUE(pair.Start(0).ok());
  std::thread aborts([&pair] {
    absl::SleepFor(absl::Milliseconds(30));
    pair.comm(0).Abort();
  });
  ExpectAborted(pair.comm(0).Await());
  aborts.join();
}

// Its results are worth nothing, though the device is done.
TEST(NcclCommunicatorTest, OpsThatAnAbortHasEndedAreNotTakenForDone) {
  Pair pair;
  pair.Form();
  pair.comm(0).Abort();
  ExpectAborted(pair.comm(0).Await());
}

TEST(NcclCommunicatorTest, AnAbortThatHangsHoldsNobody) {
  Pair pair;
  pair.Form(kShort);
  pair.nccl().HangAborts(true);
  const absl::Time start = absl::Now();
  pair.comm(0).Abort();
  EXPECT_LT(absl::Now() - start, absl::Milliseconds(150));
  ExpectAborted(pair.comm(0).CheckHealth());
  pair.Destroy(0);
  EXPECT_LT(absl::Now() - start, absl::Seconds(30));
  pair.nccl().HangAborts(false);
  while (pair.nccl().num_alive() > 1) absl::SleepFor(absl::Milliseconds(1));
}

TEST(NcclCommunicatorTest, WhoHasNotAbortedLeavesInOrder) {
  Pair pair;
  pair.Form();
  pair.Destroy(0);
  pair.Destroy(1);
  for (int r = 0; r < 2; ++r) {
    EXPECT_THAT(pair.nccl().calls(r), ElementsAre("InitRank", "Finalize", "Destroy"));
  }
  EXPECT_EQ(pair.nccl().num_alive(), 0);
}

TEST(NcclCommunicatorTest, WhoCannotLeaveInTimeAborts) {
  Pair pair;
  pair.Form(kShort);
  pair.nccl().HangFinalize(true);
  pair.Destroy(0);
  EXPECT_THAT(pair.nccl().calls(0), ElementsAre("InitRank", "Finalize", "Abort"));
}

// Whoever is in the middle of a call ends it first: the fake allows one call at a time.
TEST(NcclCommunicatorTest, AbortsAtAnyMomentMeetNobodyInsideNccl) {
  for (int round = 0; round < 200; ++round) {
    Pair pair;
    pair.Form();
    std::thread ranks[2];
    for (int r = 0; r < 2; ++r) {
      ranks[r] = std::thread([&pair, r] {
        while (pair.Reduce(r).ok()) {
        }
      });
    }
    absl::SleepFor(absl::Microseconds(20 * (round % 10)));
    pair.comm(round % 2).Abort();
    for (std::thread& rank : ranks) rank.join();
  }
}

TEST(NcclDefaultsTest, MulticastIsOffUnlessTheOperatorHasSaidOtherwise) {
  unsetenv("NCCL_NVLS_ENABLE");
  SetNcclDefaults();
  EXPECT_STREQ(getenv("NCCL_NVLS_ENABLE"), "0");
  setenv("NCCL_NVLS_ENABLE", "1", 1);
  SetNcclDefaults();
  EXPECT_STREQ(getenv("NCCL_NVLS_ENABLE"), "1");
  unsetenv("NCCL_NVLS_ENABLE");
}

}  // namespace
}  // namespace krait::testing
