// A rank reads its own slices of the files, and what every rank needs: no more.

#include <gtest/gtest.h>

#include <algorithm>

#include "tests/support/hybrid_checkpoint.h"
#include "tests/support/runner_bench.h"
#include "tests/support/tiny_checkpoint.h"

namespace krait::testing {
namespace {

// By rank, each with a checkpoint of its own, as in a process of its own.
std::vector<int64_t> BytesRead(const std::string& folder, int num_ranks) {
  Ranks ranks(num_ranks);
  std::vector<int64_t> bytes(num_ranks);
  ranks.Run([&](int r) {
    const Checkpoint checkpoint = *Checkpoint::Open(folder);
    const ModelConfig config = *ModelConfig::Load(checkpoint);
    const int64_t before = checkpoint.bytes_read();
    const auto runner = ModelRunner::Create(TinyRunnerOptions(), config, checkpoint,
                                            ranks.backend(r), ranks.comm(r));
    ASSERT_TRUE(runner.ok()) << runner.status();
    bytes[r] = checkpoint.bytes_read() - before;
  });
  return bytes;
}

// Norms, biases and the like: what a matrix product is not split along.
int64_t BytesOfVectors(const std::string& folder) {
  const Checkpoint checkpoint = *Checkpoint::Open(folder);
  int64_t bytes = 0;
  for (const auto& [name, tensor] : checkpoint.tensors()) {
    if (tensor.shape.size() == 1) bytes += static_cast<int64_t>(tensor.num_bytes);
  }
  return bytes;
}

class RankLoadingTest : public ::testing::TestWithParam<const char*> {
 protected:
  std::string Folder() const {
    const std::string folder = ::testing::TempDir() + "/rank_loading_" + GetParam();
    const TinyModelOptions base{.num_layers = 4, .seed = 5};
    if (std::string(GetParam()) == "llama") {
      EXPECT_TRUE(WriteTinyFolder(MakeTinyModel(base), folder).ok());
    } else {
      const HybridOptions options{.mixers = GetParam(), .base = base};
      EXPECT_TRUE(WriteHybridFolder(MakeHybridModel(options), options, folder).ok());
    }
    return folder;
  }
};
INSTANTIATE_TEST_SUITE_P(Models, RankLoadingTest, ::testing::Values("llama", "2A2A", "1A1A"),
                         [](const auto& info) { return std::string(info.param); });

TEST_P(RankLoadingTest, RanksShareTheBytesOfTheMatrices) {
  const std::string folder = Folder();
  const int64_t whole = BytesRead(folder, 1)[0];
  const int64_t vectors = BytesOfVectors(folder);
  EXPECT_LT(10 * vectors, whole) << "else the test says little";
  for (int num_ranks = 2; num_ranks <= 3; ++num_ranks) {
    int64_t sum = 0;
    for (const int64_t bytes : BytesRead(folder, num_ranks)) {
      EXPECT_LT(bytes, whole * 7 / 10) << "one of two ranks has two of three groups";
      sum += bytes;
    }
    EXPECT_GE(sum, whole);
    EXPECT_LE(sum, whole + (num_ranks - 1) * vectors);
  }
}

}  // namespace
}  // namespace krait::testing
