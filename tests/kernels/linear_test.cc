#include "kernels/ops/linear.h"

#include <cmath>
#include <numeric>

#include "absl/status/status.h"
#include "kernels/core/bf16.h"
#include "tests/kernels/kernel_test_util.h"
#include "tests/kernels/linear_problem.h"

namespace krait::kernels {
namespace {

using ::testing::ElementsAreArray;

std::vector<float> Multiply(Backend& backend, const LinearWeight& weight, std::vector<float> x,
                            int64_t rows) {
  std::vector<float> y(rows * weight.n(), NAN);
  backend.Linear(
      {.x = Matrix(x, rows, weight.k()), .weight = &weight, .y = Matrix(y, rows, weight.n())});
  return y;
}

std::vector<float> Partials(Backend& backend, const LinearWeight& weight, std::vector<float> x,
                            int64_t rows) {
  std::vector<float> y(weight.k_blocks() * rows * weight.n(), NAN);
  backend.Linear({.x = Matrix(x, rows, weight.k()),
                  .weight = &weight,
                  .y = TensorView(y.data(), DType::kF32, {weight.k_blocks(), rows, weight.n()}),
                  .partials = true});
  return y;
}

// The sum in double, of the weights as the backend keeps them.
double Oracle(const Problem& problem, const float* x, int64_t output) {
  double sum = 0;
  for (int64_t k = 0; k < problem.k; ++k) {
    const float w = problem.weights[output * problem.k + k];
    sum += double{x[k]} * (problem.dtype == DType::kBF16 ? FromBf16(ToBf16(w)) : w);
  }
  return sum;
}

class LinearTest : public ::testing::TestWithParam<BackendVariant> {
 protected:
  const std::unique_ptr<Backend> backend_ = MakeBackend(GetParam());
};
INSTANTIATE_TEST_SUITE_P(Variants, LinearTest, ::testing::ValuesIn(AllVariants()),
                         ::testing::PrintToStringParamName());

TEST_P(LinearTest, AgreesWithADoublePrecisionSum) {
  for (const Problem& problem :
       {MakeProblem(1, 1), MakeProblem(16, 64), MakeProblem(17, 63), MakeProblem(100, 129),
        MakeProblem(67, 96, 3), MakeProblem(33, 48, 4, DType::kF32),
        MakeProblem(95, 35, 1, DType::kF32)}) {
    const auto weight = Prepare(*backend_, problem);
    for (int64_t rows : {1, 2, 3, 4, 5, 6, 7, 13}) {
      const std::vector<float> x = Gaussian(rows * problem.k, 7);
      const std::vector<float> y = Multiply(*backend_, *weight, x, rows);
      for (int64_t i = 0; i < rows * problem.n; ++i) {
        const double expected =
            Oracle(problem, x.data() + i / problem.n * problem.k, i % problem.n);
        ASSERT_NEAR(y[i], expected, 1e-5 * std::sqrt(problem.k))
            << problem.n << "x" << problem.k << " rows " << rows << " element " << i;
      }
    }
  }
}

// A row's bits do not depend on its neighbours, on threads or on the instruction set.
TEST_P(LinearTest, RowsHaveTheBitsOfThePlainTwinAlone) {
  const auto plain = MakeBackend(PlainVariant());
  for (const Problem& problem :
       {MakeProblem(150, 96, 3), MakeProblem(95, 77), MakeProblem(64, 60, 12, DType::kF32)}) {
    const auto weight = Prepare(*backend_, problem);
    const auto plain_weight = Prepare(*plain, problem);
    const std::vector<float> all = Gaussian(60 * problem.k, 11);
    std::vector<float> expected;
    for (int64_t row = 0; row < 60; ++row) {
      const std::vector<float> x(all.begin() + row * problem.k,
                                 all.begin() + (row + 1) * problem.k);
      const std::vector<float> y = Multiply(*plain, *plain_weight, x, 1);
      expected.insert(expected.end(), y.begin(), y.end());
    }
    for (int64_t rows : {1, 2, 3, 4, 5, 6, 7, 8, 9, 33, 60}) {
      const std::vector<float> x(all.begin(), all.begin() + rows * problem.k);
      std::vector<float> want(expected.begin(), expected.begin() + rows * problem.n);
      ASSERT_EQ(BitsOf(Multiply(*backend_, *weight, x, rows)), BitsOf(want)) << rows << " rows";
    }
  }
}

TEST_P(LinearTest, EveryOutputIsOneChainABlockAndBlocksAddInOrder) {
  const Problem problem = MakeProblem(40, 96, 3);
  const std::vector<float> x = Gaussian(problem.k, 3);
  const std::vector<float> y = Multiply(*backend_, *Prepare(*backend_, problem), x, 1);
  for (int64_t j = 0; j < problem.n; ++j) {
    float sums[3] = {};
    for (int64_t k = 0; k < problem.k; ++k) {
      sums[k / 32] = std::fma(x[k], FromBf16(ToBf16(problem.weights[j * 96 + k])), sums[k / 32]);
    }
    ASSERT_EQ(y[j], (sums[0] + sums[1]) + sums[2]) << j;
  }
}

TEST_P(LinearTest, PartialsAddUpToTheDirectSum) {
  const Problem problem = MakeProblem(50, 120, 6);
  const auto weight = Prepare(*backend_, problem);
  for (int64_t rows : {1, 5, 55}) {
    const std::vector<float> x = Gaussian(rows * problem.k, 5);
    std::vector<float> residual = Gaussian(rows * problem.n, 6);
    const std::vector<float> partials = Partials(*backend_, *weight, x, rows);
    std::vector<const float*> blocks;
    for (int b = 0; b < 6; ++b) blocks.push_back(partials.data() + b * rows * problem.n);

    std::vector<float> direct(rows * problem.n), summed(rows * problem.n);
    std::vector<float> x_copy = x;
    const TensorView residual_view = Matrix(residual, rows, problem.n);
    backend_->Linear({.x = Matrix(x_copy, rows, problem.k),
                      .weight = weight.get(),
                      .y = Matrix(direct, rows, problem.n),
                      .residual = &residual_view});
    backend_->SumBlocks(
        {.blocks = blocks, .residual = &residual_view, .out = Matrix(summed, rows, problem.n)});
    ASSERT_EQ(BitsOf(direct), BitsOf(summed));
    for (size_t i = 0; i < direct.size(); ++i) {
      float sum = blocks[0][i];
      for (int b = 1; b < 6; ++b) sum += blocks[b][i];
      ASSERT_EQ(direct[i], residual[i] + sum);
    }
  }
}

// Ranks own whole blocks of k: each packs its columns alone.
TEST_P(LinearTest, RanksThatShareKHaveTheBitsOfOne) {
  constexpr int kBlocks = 6, kRows = 4;
  const Problem whole = MakeProblem(45, 96, kBlocks);
  const int64_t block_size = whole.k / kBlocks;
  const std::vector<float> x = Gaussian(kRows * whole.k, 9);
  const std::vector<float> expected = Multiply(*backend_, *Prepare(*backend_, whole), x, kRows);
  for (int ranks : {2, 3, 4}) {
    std::vector<std::vector<float>> partials;
    std::vector<const float*> blocks;
    for (int rank = 0; rank < ranks; ++rank) {
      const int64_t first = kBlocks * rank / ranks, last = kBlocks * (rank + 1) / ranks;
      const int64_t k = (last - first) * block_size;
      Problem part{whole.n, k, last - first, whole.dtype, {}};
      std::vector<float> x_part;
      for (int64_t row = 0; row < whole.n; ++row) {
        const float* from = whole.weights.data() + row * whole.k + first * block_size;
        part.weights.insert(part.weights.end(), from, from + k);
      }
      for (int64_t row = 0; row < kRows; ++row) {
        const float* from = x.data() + row * whole.k + first * block_size;
        x_part.insert(x_part.end(), from, from + k);
      }
      partials.push_back(Partials(*backend_, *Prepare(*backend_, part), x_part, kRows));
      for (int64_t b = 0; b < last - first; ++b) {
        blocks.push_back(partials.back().data() + b * kRows * whole.n);
      }
    }
    std::vector<float> sum(kRows * whole.n);
    backend_->SumBlocks({.blocks = blocks, .out = Matrix(sum, kRows, whole.n)});
    ASSERT_EQ(BitsOf(sum), BitsOf(expected)) << ranks << " ranks";
  }
}

TEST_P(LinearTest, ReadsAndWritesStridedRowsAndAddsTheResidualInPlace) {
  const Problem problem = MakeProblem(37, 50, 2);
  const auto weight = Prepare(*backend_, problem);
  std::vector<float> x_wide = Gaussian(7 * 60, 1), y_wide = Gaussian(7 * 41, 2);
  std::vector<float> x;
  for (int row = 0; row < 7; ++row) {
    x.insert(x.end(), x_wide.begin() + row * 60 + 5, x_wide.begin() + row * 60 + 55);
  }
  const std::vector<float> product = Multiply(*backend_, *weight, x, 7);
  const std::vector<float> before = y_wide;
  const TensorView y = Matrix(y_wide, 7, 41).Columns(2, 39);
  backend_->Linear(
      {.x = Matrix(x_wide, 7, 60).Columns(5, 55), .weight = weight.get(), .y = y, .residual = &y});
  for (int row = 0; row < 7; ++row) {
    for (int column = 0; column < 41; ++column) {
      const int at = row * 41 + column;
      const bool inside = column >= 2 && column < 39;
      const float sum = inside ? before[at] + product[row * 37 + column - 2] : before[at];
      ASSERT_EQ(y_wide[at], sum) << row << " " << column;
    }
  }
}

TEST(PrepareLinearTest, PassesOnAReadErrorAndAsksForRowsInBoundedSlices) {
  const auto backend = MakeBackend(PlainVariant());
  int64_t largest = 0, next = 0;
  LinearSource source{5000, 1000, 1, DType::kBF16, nullptr};
  source.read_rows = [&](int64_t begin, int64_t end, float* out) {
    EXPECT_EQ(begin, next);
    next = end;
    largest = std::max(largest, end - begin);
    std::fill(out, out + (end - begin) * 1000, 1.0f);
    return end == 5000 ? absl::DataLossError("row 4999 is cut off") : absl::OkStatus();
  };
  const auto weight = backend->PrepareLinear(source);
  EXPECT_EQ(weight.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(next, 5000);
  EXPECT_LE(largest * 1000 * 4, int64_t{8} << 20);
}

}  // namespace
}  // namespace krait::kernels
