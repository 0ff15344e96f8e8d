// Every sampling op's result is the CPU's, bit by bit.

#include <cmath>
#include <limits>
#include <numeric>

#include "kernels/ops/sampling.h"
#include "tests/kernels/cuda/mirror_backend.h"
#include "tests/kernels/draw_problem.h"

namespace krait::kernels {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

class CudaSamplingTest : public ::testing::Test {
 protected:
  // Rows of awkward lengths; some with ties, masks, and signed zeros.
  static std::vector<std::vector<float>> Rows() {
    std::vector<std::vector<float>> rows;
    for (int64_t n : {1, 5, 255, 4096, 4097, 49152, 128256}) {
      rows.push_back(Gaussian(n, static_cast<uint32_t>(n), 4.0f));
      std::vector<float> coarse = rows.back();
      for (float& value : coarse) value = std::round(value);
      rows.push_back(coarse);
      for (size_t i = 0; i < coarse.size(); i += 3) coarse[i] = -kInfinity;
      rows.push_back(coarse);
    }
    rows.push_back({-0.0f, 0.0f, -0.0f});
    rows.push_back({-kInfinity, -kInfinity});
    return rows;
  }

  const std::unique_ptr<Backend> cpu_ = CreateCpuBackend({});
  const std::unique_ptr<Backend> cuda_ = CreateMirrorBackend();
};

TEST_F(CudaSamplingTest, FindRowMax) {
  std::vector<std::vector<float>> rows = Rows();
  rows.push_back({1, NAN, 3});
  rows.push_back({1, kInfinity});
  std::vector<LogitsShard> shards;
  for (auto& row : rows) shards.push_back({row.data(), static_cast<int64_t>(row.size())});
  std::vector<RowMax> cpu(rows.size()), cuda(rows.size());
  cpu_->FindRowMax(shards, absl::MakeSpan(cpu));
  cuda_->FindRowMax(shards, absl::MakeSpan(cuda));
  for (size_t i = 0; i < rows.size(); ++i) {
    EXPECT_EQ(cpu[i].max, cuda[i].max) << i;
    EXPECT_EQ(cpu[i].finite, cuda[i].finite) << i;
  }
}

TEST_F(CudaSamplingTest, ExpMass) {
  std::vector<std::vector<float>> rows = Rows();
  rows.pop_back();  // all are masked: no row that is drawn from
  std::vector<MassRow> mass_rows;
  for (auto& row : rows) {
    const float max = *std::max_element(row.begin(), row.end());
    if (std::isinf(max)) continue;
    for (float temperature : {0.01f, 0.7f, 1.0f, 3.0f}) {
      mass_rows.push_back({{row.data(), static_cast<int64_t>(row.size())}, max, temperature});
    }
  }
  std::vector<uint64_t> cpu(mass_rows.size()), cuda(mass_rows.size());
  cpu_->ExpMass(mass_rows, absl::MakeSpan(cpu));
  cuda_->ExpMass(mass_rows, absl::MakeSpan(cuda));
  EXPECT_EQ(cpu, cuda);
}

TEST_F(CudaSamplingTest, GumbelArgmax) {
  std::vector<std::vector<float>> rows = Rows();
  std::vector<TokenId> ids(128256);
  std::iota(ids.begin(), ids.end(), 7);
  for (size_t i = 0; i < ids.size(); ++i) ids[i] += static_cast<TokenId>(2 * i);
  std::vector<GumbelRow> gumbel_rows;
  for (auto& row : rows) {
    const float max = *std::max_element(row.begin(), row.end());
    for (int i = 0; i < 12; ++i) {
      GumbelRow gumbel;
      gumbel.shard = {row.data(), static_cast<int64_t>(row.size()), i % 2 ? 0 : 1001,
                      i % 3 == 2 ? ids.data() : nullptr};
      gumbel.max = max;
      gumbel.temperature = i % 4 == 0 || std::isinf(max) ? 0 : 0.3f * i;
      gumbel.min_z = i % 5 == 1 ? -2.0f : -kInfinity;
      gumbel.seed = 1234567ull * i;
      gumbel.position = 3 + i;
      gumbel.choice = i % 2;
      gumbel_rows.push_back(gumbel);
    }
  }
  std::vector<GumbelBest> cpu(gumbel_rows.size()), cuda(gumbel_rows.size());
  cpu_->GumbelArgmax(gumbel_rows, absl::MakeSpan(cpu));
  cuda_->GumbelArgmax(gumbel_rows, absl::MakeSpan(cuda));
  for (size_t i = 0; i < cpu.size(); ++i) {
    EXPECT_EQ(cpu[i].id, cuda[i].id) << i;
    EXPECT_EQ(cpu[i].score, cuda[i].score) << i;
  }
}

TEST_F(CudaSamplingTest, TopCandidates) {
  std::vector<std::vector<float>> rows = Rows();
  std::vector<TopRow> top_rows;
  for (auto& row : rows) {
    for (int k : {0, 1, 3, 50, 2000, 200000}) {
      top_rows.push_back({{row.data(), static_cast<int64_t>(row.size()), 11}, k});
    }
  }
  std::vector<std::vector<Candidate>> cpu(top_rows.size()), cuda(top_rows.size());
  cpu_->TopCandidates(top_rows, absl::MakeSpan(cpu));
  cuda_->TopCandidates(top_rows, absl::MakeSpan(cuda));
  for (size_t i = 0; i < cpu.size(); ++i) {
    ASSERT_EQ(cpu[i].size(), cuda[i].size()) << i;
    for (size_t j = 0; j < cpu[i].size(); ++j) {
      ASSERT_EQ(cpu[i][j].id, cuda[i][j].id) << i << " " << j;
      ASSERT_EQ(cpu[i][j].logit, cuda[i][j].logit) << i << " " << j;
    }
  }
}

TEST_F(CudaSamplingTest, DrawTokens) {
  for (const bool ids : {false, true}) {
    for (const int64_t n : {1, 33, 4096, 4097, 49152, 128256}) {
      DrawProblem problem = MakeDrawProblem(40, n, ids, static_cast<uint32_t>(n) + ids);
      std::vector<TokenId> cpu(40, 1), cuda(40, 2);
      cpu_->DrawTokens(problem.Params(cpu.data()));
      cuda_->DrawTokens(problem.Params(cuda.data()));
      EXPECT_EQ(cpu, cuda) << n << " " << ids;
    }
  }
}

TEST_F(CudaSamplingTest, BiasesAndPenalties) {
  const std::vector<BiasEntry> biases = {{3, 1.5f}, {12, -kInfinity}, {90, 2.0f}, {5000, 1.0f}};
  const std::vector<TokenCount> counts = {{2, 0}, {12, 4}, {50, 1}, {99, 2}, {200, 1}};
  const auto run = [&](Backend& backend) {
    std::vector<float> logits = Gaussian(100, 3, 5.0f);
    const LogitsShard shard = {logits.data(), 100, 2};
    const BiasRow bias_row = {shard, biases};
    backend.BiasLogits({&bias_row, 1});
    const PenaltyRow penalty_row = {shard, counts, 1.3f, 0.25f, 0.125f};
    backend.Penalize({&penalty_row, 1});
    return logits;
  };
  EXPECT_EQ(BitsOf(run(*cpu_)), BitsOf(run(*cuda_)));
}

}  // namespace
}  // namespace krait::kernels
