// Tensor-parallel arithmetic on one GPU: two ranks, threads of this process, whose kernels meet.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <thread>

#include "tests/support/hybrid_checkpoint.h"
#include "tests/support/random_tokens.h"
#include "tests/support/runner_bench.h"
#include "worker/comm/in_process_communicator.h"
#include "worker/comm/peer_communicator.h"

namespace krait::testing {
namespace {

constexpr int kLength = 140;  // more than one attention split, and several folds

// A model on ranks that share the GPU, a thread each while a pass runs.
class SharedGpuRunner {
 public:
  SharedGpuRunner(const std::string& path, DType weight_dtype, int num_ranks) {
    std::vector<Backend*> borrowed;
    for (int r = 0; r < num_ranks; ++r) {
      backends_.push_back(*CreateBackend({DeviceKind::kCuda, 0}, 1));
      borrowed.push_back(backends_.back().get());
    }
    comms_ = num_ranks == 1 ? CreateInProcessGroup(borrowed) : *CreatePeerGroup(borrowed);
    const Checkpoint checkpoint = *Checkpoint::Open(path);
    const ModelConfig config = *ModelConfig::Load(checkpoint);
    runners_.resize(num_ranks);
    OnRanks([&](int r) {
      auto runner = ModelRunner::Create(TinyRunnerOptions(weight_dtype), config, checkpoint,
                                        backends_[r].get(), comms_[r].get());
      EXPECT_TRUE(runner.ok()) << runner.status();
      runners_[r] = *std::move(runner);
    });
  }

  // The ranks' logits side by side.
  Logits Forward(const std::vector<BatchRow>& rows) {
    std::vector<Logits> shards(runners_.size());
    OnRanks([&](int r) {
      absl::StatusOr<TensorView> view = runners_[r]->Forward(rows);
      ASSERT_TRUE(view.ok()) << view.status();
      shards[r].assign(view->dim(0), std::vector<float>(view->dim(1)));
      for (int64_t row = 0; row < view->dim(0); ++row) {
        backends_[r]->CopyToHost(view->Rows(row, row + 1), shards[r][row].data());
      }
    });
    Logits logits = shards[0];
    for (size_t r = 1; r < shards.size(); ++r) {
      for (size_t row = 0; row < logits.size(); ++row) {
        logits[row].insert(logits[row].end(), shards[r][row].begin(), shards[r][row].end());
      }
    }
    return logits;
  }

 private:
  void OnRanks(const std::function<void(int)>& body) {
    std::vector<std::thread> threads;
    for (size_t r = 0; r < runners_.size(); ++r) {
      threads.emplace_back([&body, r] { body(static_cast<int>(r)); });
    }
    for (std::thread& thread : threads) thread.join();
  }

  std::vector<std::unique_ptr<Backend>> backends_;
  std::vector<std::unique_ptr<Communicator>> comms_;
  std::vector<std::unique_ptr<ModelRunner>> runners_;
};

struct Case {
  std::string mixers;
  DType dtype;
};

std::ostream& operator<<(std::ostream& out, const Case& c) {
  return out << "mixers" << c.mixers << "_" << Name(c.dtype);
}

class CudaTwoRanksTest : public ::testing::TestWithParam<Case> {
 protected:
  CudaTwoRanksTest() : folder_(::testing::TempDir() + "/cuda_two_ranks_" + GetParam().mixers) {
    const HybridOptions options{.mixers = GetParam().mixers, .base = {.seed = 21}};
    EXPECT_TRUE(WriteHybridFolder(MakeHybridModel(options), options, folder_).ok());
  }
  SharedGpuRunner On(int num_ranks) const { return {folder_, GetParam().dtype, num_ranks}; }
  static TestSequence Sequence(uint64_t seed, PageId first_page, StateSlotId slot) {
    return {.tokens = RandomTokens(kLength, 512, seed),
            .pages = PageRange(first_page, 36),
            .state_slot = slot};
  }
  static Logits OneShot(SharedGpuRunner& runner, uint64_t seed) {
    TestSequence sequence = Sequence(seed, 0, 0);
    return runner.Forward({sequence.Next(kLength, kLength)});
  }

  const std::string folder_;
};
INSTANTIATE_TEST_SUITE_P(Models, CudaTwoRanksTest,
                         ::testing::Values(Case{"AAAA", DType::kF32}, Case{"AAAA", DType::kBF16},
                                           Case{"2A2A", DType::kF32}, Case{"2A2A", DType::kBF16},
                                           Case{"1A1A", DType::kF32}, Case{"1A1A", DType::kBF16}),
                         ::testing::PrintToStringParamName());

// Steps of a few rows are recorded; their kernels meet without the host.
TEST_P(CudaTwoRanksTest, ChunksAndRecordedStepsRepeatTheBitsOfOneShot) {
  SharedGpuRunner two = On(2);
  const Logits expected = OneShot(two, 1);
  std::mt19937 words(2);
  for (const int largest : {1, 3, 50}) {
    TestSequence sequence = Sequence(1, 40, 1);
    Logits logits;
    while (sequence.num_computed < kLength) {
      const int left = kLength - sequence.num_computed;
      const int count = std::min<int>(left, 1 + words() % largest);
      for (auto& row : two.Forward({sequence.Next(count, count)})) logits.push_back(row);
    }
    EXPECT_TRUE(SameBits(logits, expected)) << largest;
  }
}

size_t ArgMax(const std::vector<float>& row) {
  return std::max_element(row.begin(), row.end()) - row.begin();
}

// Another order of adding: where another token comes out, it was as good but for that.
TEST_P(CudaTwoRanksTest, AgreeWithOneRank) {
  SharedGpuRunner one = On(1), two = On(2);
  int num_equal = 0, num_rows = 0;
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    const Logits expected = OneShot(one, seed), got = OneShot(two, seed);
    for (size_t t = 0; t < expected.size(); ++t, ++num_rows) {
      const size_t token = ArgMax(expected[t]), other = ArgMax(got[t]);
      num_equal += token == other;
      float difference = 0;
      for (size_t i = 0; i < expected[t].size(); ++i) {
        difference = std::max(difference, std::abs(expected[t][i] - got[t][i]));
      }
      EXPECT_LE(expected[t][token] - expected[t][other], 2 * difference) << t;
    }
  }
  EXPECT_GE(num_equal, num_rows * 99 / 100) << "of " << num_rows;
}

}  // namespace
}  // namespace krait::testing
