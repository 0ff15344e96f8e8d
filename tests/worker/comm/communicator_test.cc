// What every Communicator does, whatever carries it.

#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <random>
#include <thread>
#include <vector>

#include "tests/support/run_ranks.h"

namespace krait {
namespace {

using testing::Ranks;
using testing::Transport;

constexpr int kBlocks = 7;
constexpr int kRows = 5;
constexpr int kColumns = 33;

// Values of very different size, so that another order of adding gives other bits.
std::vector<float> RandomValues(size_t count, uint64_t seed) {
  std::mt19937_64 words(seed);
  std::vector<float> values(count);
  for (float& value : values) {
    const int exponent = static_cast<int>(words() % 12) - 6;
    const float mantissa = static_cast<float>(static_cast<int64_t>(words() % 20001) - 10000);
    value = std::ldexp(mantissa, exponent);
  }
  return values;
}

std::vector<float> PlainSum(const std::vector<float>& blocks, const std::vector<float>& residual) {
  std::vector<float> sums(residual.size());
  for (size_t i = 0; i < sums.size(); ++i) {
    float sum = blocks[i];
    for (size_t b = 1; b < kBlocks; ++b) sum += blocks[b * sums.size() + i];
    sums[i] = residual[i] + sum;
  }
  return sums;
}

// Reduces `blocks` on `ranks`; by rank, what each received in place of its residual.
std::vector<std::vector<float>> Reduce(Ranks& ranks, const std::vector<float>& blocks,
                                       const std::vector<float>& residual) {
  std::vector<std::vector<float>> outs(ranks.size(), residual);
  std::vector<std::vector<float>> mine(ranks.size());
  ranks.Run([&](int r) {
    const int64_t begin = kBlocks * r / ranks.size();
    const int64_t end = kBlocks * (r + 1) / ranks.size();
    mine[r].assign(blocks.begin() + begin * kRows * kColumns,
                   blocks.begin() + end * kRows * kColumns);
    const TensorView out(outs[r].data(), DType::kF32, {kRows, kColumns});
    const absl::Status status = ranks.comm(r)->AllReduceSum(
        {.partials = TensorView(mine[r].data(), DType::kF32, {end - begin, kRows, kColumns}),
         .first_block = begin,
         .num_blocks = kBlocks,
         .residual = &out,
         .out = out});
    EXPECT_TRUE(status.ok()) << status;
  });
  return outs;
}

class CommunicatorTest : public ::testing::TestWithParam<Transport> {};
// Of those that add the blocks of a model; the others add one a rank.
class BlockCommunicatorTest : public ::testing::TestWithParam<Transport> {};

std::string NameOf(const ::testing::TestParamInfo<Transport>& info) {
  const char* const names[] = {"InProcess", "Gloo", "Peer", "Nccl"};
  return names[static_cast<int>(info.param)];
}

INSTANTIATE_TEST_SUITE_P(All, CommunicatorTest,
                         ::testing::Values(Transport::kInProcess, Transport::kGloo,
                                           Transport::kPeer, Transport::kNccl),
                         NameOf);
INSTANTIATE_TEST_SUITE_P(All, BlockCommunicatorTest,
                         ::testing::Values(Transport::kInProcess, Transport::kGloo), NameOf);

TEST_P(BlockCommunicatorTest, SumsHaveTheBitsOfBlockOrderAtEveryDegree) {
  const std::vector<float> blocks = RandomValues(kBlocks * kRows * kColumns, 1);
  const std::vector<float> residual = RandomValues(kRows * kColumns, 2);
  const std::vector<float> expected = PlainSum(blocks, residual);
  for (int degree = 1; degree <= 5; ++degree) {
    Ranks ranks(degree, 1, GetParam());
    for (const std::vector<float>& out : Reduce(ranks, blocks, residual)) {
      EXPECT_EQ(std::memcmp(out.data(), expected.data(), out.size() * sizeof(float)), 0) << degree;
    }
  }
}

// A block a rank, of a few rows, and of many: the order must not follow from the size.
TEST_P(CommunicatorTest, SumsOfOneBlockARankAreInRankOrder) {
  for (int size = 1; size <= 4; ++size) {
    Ranks ranks(size, 1, GetParam());
    for (const int64_t rows : {1, 3, 200}) {
      const size_t count = rows * kColumns;
      const std::vector<float> blocks = RandomValues(size * count, 3 + rows);
      const std::vector<float> residual = RandomValues(count, 4 + rows);
      std::vector<std::vector<float>> outs(size, residual);
      std::vector<float> shown = blocks;  // what peers read
      ranks.Run([&](int r) {
        const TensorView out(outs[r].data(), DType::kF32, {rows, kColumns});
        ASSERT_TRUE(ranks.comm(r)
                        ->AllReduceSum({.partials = TensorView(shown.data() + r * count,
                                                               DType::kF32, {1, rows, kColumns}),
                                        .first_block = r,
                                        .num_blocks = size,
                                        .residual = &out,
                                        .out = out})
                        .ok());
      });
      for (size_t i = 0; i < count; ++i) {
        float sum = blocks[i];
        for (int r = 1; r < size; ++r) sum += blocks[r * count + i];
        for (int r = 0; r < size; ++r) ASSERT_EQ(outs[r][i], residual[i] + sum) << r << " " << i;
      }
    }
  }
}

TEST_P(CommunicatorTest, GathersInRankOrder) {
  Ranks ranks(3, 1, GetParam());
  ranks.Run([&](int r) {
    const std::byte send[2] = {std::byte(10 * r), std::byte(10 * r + 1)};
    std::byte recv[6];
    ASSERT_TRUE(ranks.comm(r)->AllGather(send, absl::MakeSpan(recv)).ok());
    const std::byte expected[6] = {std::byte(0),  std::byte(1),  std::byte(10),
                                   std::byte(11), std::byte(20), std::byte(21)};
    EXPECT_EQ(std::memcmp(recv, expected, 6), 0);
  });
}

// One exchange of a random kind; what it should give follows from the round alone.
void RunRound(Communicator& comm, int round, std::vector<float>& partials) {
  const int size = comm.size();
  if (round % 3 == 0) {
    const int64_t send = round * 100 + comm.rank();
    std::vector<int64_t> recv(size);
    ASSERT_TRUE(comm.AllGather(absl::MakeConstSpan(reinterpret_cast<const std::byte*>(&send), 8),
                               absl::MakeSpan(reinterpret_cast<std::byte*>(recv.data()), 8 * size))
                    .ok());
    for (int r = 0; r < size; ++r) ASSERT_EQ(recv[r], round * 100 + r);
    return;
  }
  partials.assign(4, static_cast<float>(round + comm.rank()));
  std::vector<float> out(4);
  ASSERT_TRUE(comm.AllReduceSum({.partials = TensorView(partials.data(), DType::kF32, {1, 1, 4}),
                                 .first_block = comm.rank(),
                                 .num_blocks = size,
                                 .out = TensorView(out.data(), DType::kF32, {1, 4})})
                  .ok());
  for (const float value : out) ASSERT_EQ(value, round * size + size * (size - 1) / 2);
}

TEST_P(CommunicatorTest, ManyRoundsNeverMix) {
  Ranks ranks(3, 1, GetParam());
  std::vector<float> all_partials[3][2];  // outlives the last round, as peers may still read it
  ranks.Run([&](int r) {
    std::mt19937 words(r);
    std::vector<float>(&partials)[2] = all_partials[r];
    for (int round = 0; round < 2000; ++round) {
      for (uint32_t spin = words() % 64; spin > 0; --spin) std::this_thread::yield();
      RunRound(*ranks.comm(r), round, partials[round & 1]);
      if (::testing::Test::HasFatalFailure()) ranks.comm(r)->Abort();
    }
  });
}

TEST_P(CommunicatorTest, AbortWakesEveryoneWhoWaitsAndEndsTheGroup) {
  Ranks ranks(3, 1, GetParam());
  std::atomic<int> num_woken{0};
  std::vector<std::thread> waiting;
  for (int r = 1; r < 3; ++r) {
    waiting.emplace_back([&, r] {
      std::byte send{}, recv[3];
      const absl::Status status =
          ranks.comm(r)->AllGather(absl::MakeConstSpan(&send, 1), absl::MakeSpan(recv));
      EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
      ++num_woken;
    });
  }
  EXPECT_TRUE(ranks.comm(0)->CheckHealth().ok());
  ranks.comm(0)->Abort();  // rank 0 never arrives
  for (std::thread& thread : waiting) thread.join();
  EXPECT_EQ(num_woken, 2);
  for (int r = 0; r < 3; ++r) {
    std::byte send{}, recv[3];
    EXPECT_EQ(ranks.comm(r)->CheckHealth().code(), absl::StatusCode::kUnavailable);
    EXPECT_EQ(ranks.comm(r)->AllGather(absl::MakeConstSpan(&send, 1), absl::MakeSpan(recv)).code(),
              absl::StatusCode::kUnavailable);
  }
}

TEST_P(CommunicatorTest, AnEmptyGatherIsNone) {
  Ranks ranks(2, 1, GetParam());
  ranks.Run([&](int r) { EXPECT_TRUE(ranks.comm(r)->AllGather({}, {}).ok()); });
}

TEST_P(CommunicatorTest, MessagesMayBeLargerThanSocketBuffers) {
  Ranks ranks(2, 1, GetParam());
  const size_t size = size_t{24} << 20;
  ranks.Run([&](int r) {
    const std::vector<std::byte> send(size, std::byte(r + 1));
    std::vector<std::byte> recv(2 * size);
    ASSERT_TRUE(ranks.comm(r)->AllGather(send, absl::MakeSpan(recv)).ok());
    for (size_t i = 0; i < recv.size(); i += size / 8) ASSERT_EQ(recv[i], std::byte(1 + i / size));
  });
}

std::byte Gather(Communicator& comm, absl::Status& status) {
  std::byte send{}, recv[3];
  status = comm.AllGather(absl::MakeConstSpan(&send, 1), absl::MakeSpan(recv, comm.size()));
  return recv[0];
}

TEST(GlooCommunicatorTest, APeerThatIsGoneIsUnavailable) {
  auto ranks = std::make_unique<Ranks>(2, 1, Transport::kGloo);
  std::thread waits([&] {
    absl::Status status;
    Gather(*ranks->comm(1), status);
    EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
    EXPECT_FALSE(ranks->comm(1)->CheckHealth().ok());
  });
  ranks->Destroy(0);
  waits.join();
}

TEST(GlooCommunicatorTest, APeerThatDoesNotAnswerInTimeIsUnavailable) {
  Ranks ranks(2, 1, Transport::kGloo, absl::Milliseconds(50));
  absl::Status status;
  Gather(*ranks.comm(0), status);
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  // Late: of this round it still finds what its peer sent before giving up, of the next nothing.
  Gather(*ranks.comm(1), status);
  Gather(*ranks.comm(1), status);
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
}

TEST(GlooCommunicatorTest, ErrorsNameWhatCannotBeHad) {
  EXPECT_EQ(GlooEndpoint::Listen({.rank = 0, .size = 2, .host = "192.0.2.1"}).status().code(),
            absl::StatusCode::kUnavailable);
  auto endpoint = GlooEndpoint::Listen({.rank = 0, .size = 2});
  ASSERT_TRUE(endpoint.ok()) << endpoint.status();
  const auto backend = CreateCpuBackend({});
  const std::string garbage[2] = {"", "not an address"};
  EXPECT_EQ((*endpoint)->Connect(garbage, backend.get()).status().code(),
            absl::StatusCode::kUnavailable);
  EXPECT_EQ((*endpoint)->Connect({}, backend.get()).status().code(), absl::StatusCode::kInternal);
}

TEST(InProcessCommunicatorDeathTest, DifferentCallsAreABug) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(
      {
        Ranks ranks(2);
        ranks.Run([&](int r) {
          std::byte send[2] = {}, recv[4];
          ranks.comm(r)
              ->AllGather(absl::MakeConstSpan(send, r + 1), absl::MakeSpan(recv, 2 * (r + 1)))
              .IgnoreError();
        });
      },
      "Check failed");
}

}  // namespace
}  // namespace krait
