// Whole models on a GPU: against the CPU to a tolerance, and the bits of every way to run a
// sequence.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "tests/support/hybrid_checkpoint.h"
#include "tests/support/random_tokens.h"
#include "tests/support/runner_bench.h"
#include "worker/comm/in_process_communicator.h"

namespace krait::testing {
namespace {

constexpr int kLength = 140;  // more than one attention split, and several folds

// A runner of one rank on some device.
class DeviceRunner {
 public:
  DeviceRunner(const std::string& path, DType weight_dtype, Device device) {
    auto backend = CreateBackend(device, 2);
    EXPECT_TRUE(backend.ok()) << backend.status();
    backend_ = *std::move(backend);
    Backend* borrowed = backend_.get();
    comm_ = std::move(CreateInProcessGroup(absl::MakeConstSpan(&borrowed, 1))[0]);
    absl::StatusOr<Checkpoint> checkpoint = Checkpoint::Open(path);
    EXPECT_TRUE(checkpoint.ok()) << checkpoint.status();
    absl::StatusOr<ModelConfig> config = ModelConfig::Load(*checkpoint);
    EXPECT_TRUE(config.ok()) << config.status();
    auto runner = ModelRunner::Create(TinyRunnerOptions(weight_dtype), *config, *checkpoint,
                                      borrowed, comm_.get());
    EXPECT_TRUE(runner.ok()) << runner.status();
    runner_ = *std::move(runner);
  }

  Logits Forward(const std::vector<BatchRow>& rows) {
    absl::StatusOr<TensorView> view = runner_->Forward(rows);
    EXPECT_TRUE(view.ok()) << view.status();
    Logits logits(view->dim(0), std::vector<float>(view->dim(1)));
    for (int64_t row = 0; row < view->dim(0); ++row) {
      backend_->CopyToHost(view->Rows(row, row + 1), logits[row].data());
    }
    return logits;
  }

 private:
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<Communicator> comm_;
  std::unique_ptr<ModelRunner> runner_;
};

struct Case {
  std::string mixers;
  DType dtype;
};

std::ostream& operator<<(std::ostream& out, const Case& c) {
  return out << "mixers" << c.mixers << "_" << Name(c.dtype);
}

class CudaRunnerTest : public ::testing::TestWithParam<Case> {
 protected:
  CudaRunnerTest() : folder_(::testing::TempDir() + "/cuda_runner_" + GetParam().mixers) {
    if (GetParam().mixers == "AAA") {
      // Heads of 64, which tensor cores take.
      const TinyModelOptions options{.num_layers = 3, .head_dim = 64, .seed = 21};
      EXPECT_TRUE(WriteTinyFolder(MakeTinyModel(options), folder_).ok());
      return;
    }
    const HybridOptions options{.mixers = GetParam().mixers, .base = {.seed = 21}};
    EXPECT_TRUE(WriteHybridFolder(MakeHybridModel(options), options, folder_).ok());
  }

  DeviceRunner Cpu() const { return {folder_, GetParam().dtype, {}}; }
  DeviceRunner Cuda() const { return {folder_, GetParam().dtype, {DeviceKind::kCuda, 0}}; }

  static TestSequence Sequence(uint64_t seed, PageId first_page, StateSlotId slot) {
    return {.tokens = RandomTokens(kLength, 512, seed),
            .pages = PageRange(first_page, 36),
            .state_slot = slot};
  }
  static Logits OneShot(DeviceRunner& runner, uint64_t seed) {
    TestSequence sequence = Sequence(seed, 0, 0);
    return runner.Forward({sequence.Next(kLength, kLength)});
  }

  const std::string folder_;
};
INSTANTIATE_TEST_SUITE_P(Models, CudaRunnerTest,
                         ::testing::Values(Case{"AAA", DType::kF32}, Case{"AAA", DType::kBF16},
                                           Case{"2A2A", DType::kF32}, Case{"2A2A", DType::kBF16},
                                           Case{"1A1A", DType::kF32}, Case{"1A1A", DType::kBF16}),
                         ::testing::PrintToStringParamName());

// bf16 products round their inputs, which the CPU's do not: how near those come is a matter of the
// model, and of the ops' own tests.
class CudaF32RunnerTest : public CudaRunnerTest {};
INSTANTIATE_TEST_SUITE_P(Models, CudaF32RunnerTest,
                         ::testing::Values(Case{"AAA", DType::kF32}, Case{"2A2A", DType::kF32},
                                           Case{"1A1A", DType::kF32}),
                         ::testing::PrintToStringParamName());

int64_t ArgMax(const std::vector<float>& row) {
  return std::max_element(row.begin(), row.end()) - row.begin();
}

TEST_P(CudaF32RunnerTest, AgreesWithTheCpu) {
  DeviceRunner cpu = Cpu(), cuda = Cuda();
  for (uint64_t seed : {1, 2, 3}) {
    const Logits expected = OneShot(cpu, seed), got = OneShot(cuda, seed);
    ASSERT_EQ(expected.size(), got.size());
    for (size_t t = 0; t < got.size(); ++t) {
      double largest = 0, difference = 0;
      for (size_t i = 0; i < got[t].size(); ++i) {
        largest = std::max<double>(largest, std::abs(expected[t][i]));
        difference = std::max<double>(difference, std::abs(double{expected[t][i]} - got[t][i]));
      }
      ASSERT_LE(difference, 1e-4 * largest) << t;
      ASSERT_EQ(ArgMax(expected[t]), ArgMax(got[t])) << t;
    }
  }
}

TEST_P(CudaRunnerTest, ChunksAndStepsGiveTheBitsOfOneShot) {
  DeviceRunner cuda = Cuda();
  const Logits expected = OneShot(cuda, 1);
  std::mt19937 words(2);
  for (const int largest : {1, 3, 50}) {
    TestSequence sequence = Sequence(1, 40, 1);
    Logits logits;
    while (sequence.num_computed < kLength) {
      const int left = kLength - sequence.num_computed;
      const int count = std::min<int>(left, 1 + words() % largest);
      for (auto& row : cuda.Forward({sequence.Next(count, count)})) logits.push_back(row);
    }
    EXPECT_TRUE(SameBits(logits, expected)) << largest;
  }
}

TEST_P(CudaRunnerTest, NeighboursDoNotChangeARow) {
  DeviceRunner cuda = Cuda();
  std::vector<Logits> alone;
  for (int s = 0; s < 3; ++s) alone.push_back(OneShot(cuda, 10 + s));
  std::vector<TestSequence> sequences;
  for (int s = 0; s < 3; ++s) sequences.push_back(Sequence(10 + s, 36 * s, s));
  std::vector<Logits> mixed(3);
  std::mt19937 words(4);
  for (int done = 0; done < 3 * kLength;) {
    std::vector<BatchRow> rows;
    std::vector<int> owners;
    for (int s = 0; s < 3; ++s) {
      const int left = kLength - sequences[s].num_computed;
      const int sizes[] = {0, 1, 5, 40};
      const int count = std::min<int>(left, sizes[words() % 4]);
      if (count == 0) continue;
      rows.push_back(sequences[s].Next(count, count));
      owners.insert(owners.end(), count, s);
    }
    if (rows.empty()) continue;
    const Logits logits = cuda.Forward(rows);
    for (size_t i = 0; i < logits.size(); ++i) mixed[owners[i]].push_back(logits[i]);
    done += static_cast<int>(logits.size());
  }
  for (int s = 0; s < 3; ++s) EXPECT_TRUE(SameBits(mixed[s], alone[s])) << s;
}

// Drafts that are rejected leave nothing behind, and accepted ones are plain steps.
TEST_P(CudaRunnerTest, CommittingJOfKIsHavingRunOnlyJ) {
  DeviceRunner cuda = Cuda();
  constexpr int kK = 6;
  const Logits expected = OneShot(cuda, 50);
  for (int j = 0; j <= kK; ++j) {
    TestSequence sequence = Sequence(50, 40, 1);
    cuda.Forward({sequence.Next(30, 0)});
    TestSequence wrong = sequence;
    for (int i = 30 + 1 + j; i < kLength; ++i) wrong.tokens[i] = (sequence.tokens[i] + 1) % 512;
    BatchRow verification = wrong.Next(1 + kK, 1 + kK);
    verification.final_position = 31;
    const Logits verified = cuda.Forward({verification});
    EXPECT_TRUE(SameBits(Logits(verified.begin(), verified.begin() + 1 + j),
                         Logits(expected.begin() + 30, expected.begin() + 31 + j)))
        << j;
    sequence.num_computed = 31 + j;
    sequence.state_position = 31;
    const int left = kLength - sequence.num_computed;
    EXPECT_TRUE(SameBits(cuda.Forward({sequence.Next(left, left)}),
                         Logits(expected.end() - left, expected.end())))
        << j;
  }
}

}  // namespace
}  // namespace krait::testing
