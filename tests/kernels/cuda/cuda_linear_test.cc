#include <cmath>

#include "kernels/core/bf16.h"
#include "tests/kernels/cuda/mirror_backend.h"
#include "tests/kernels/kernel_test_util.h"
#include "tests/kernels/linear_problem.h"

namespace krait::kernels {
namespace {

std::vector<float> Multiply(Backend& backend, const LinearWeight& weight, std::vector<float> x,
                            std::vector<float> residual = {}) {
  const auto rows = static_cast<int64_t>(x.size()) / weight.k();
  std::vector<float> y(rows * weight.n(), NAN);
  TensorView added;
  if (!residual.empty()) added = Matrix(residual, rows, weight.n());
  backend.Linear({.x = Matrix(x, rows, weight.k()),
                  .weight = &weight,
                  .y = Matrix(y, rows, weight.n()),
                  .residual = residual.empty() ? nullptr : &added});
  return y;
}

std::vector<float> Partials(Backend& backend, const LinearWeight& weight, std::vector<float> x) {
  const auto rows = static_cast<int64_t>(x.size()) / weight.k();
  std::vector<float> y(weight.k_blocks() * rows * weight.n(), NAN);
  backend.Linear({.x = Matrix(x, rows, weight.k()),
                  .weight = &weight,
                  .y = TensorView(y.data(), DType::kF32, {weight.k_blocks(), rows, weight.n()}),
                  .partials = true});
  return y;
}

float Rounded(float value) { return FromBf16(ToBf16(value)); }

class CudaLinearTest : public ::testing::Test {
 protected:
  const std::unique_ptr<Backend> cpu_ = CreateCpuBackend({});
  const std::unique_ptr<Backend> cuda_ = CreateMirrorBackend();
};

std::vector<Problem> Bf16Problems() {
  return {MakeProblem(1, 1),          MakeProblem(16, 64),     MakeProblem(17, 63),
          MakeProblem(100, 129),      MakeProblem(67, 96, 3),  MakeProblem(40, 576, 9),
          MakeProblem(576, 1536, 12), MakeProblem(33, 100, 4), MakeProblem(4100, 576),
          MakeProblem(4200, 1024, 8), MakeProblem(64, 640, 32)};
}

TEST_F(CudaLinearTest, Bf16AgreesWithADoubleSumOverRoundedInputs) {
  for (const Problem& problem : Bf16Problems()) {
    const auto weight = Prepare(*cuda_, problem);
    for (int64_t rows : {1, 2, 7, 8, 9, 16, 17, 33, 64, 65, 130}) {
      const std::vector<float> x = Gaussian(rows * problem.k, 7);
      const std::vector<float> residual = Gaussian(rows * problem.n, 8);
      const std::vector<float> y = Multiply(*cuda_, *weight, x, residual);
      for (int64_t row : {int64_t{0}, rows / 2, rows - 1}) {
        for (int64_t o = 0; o < problem.n; ++o) {
          double sum = 0, magnitude = 0;
          for (int64_t k = 0; k < problem.k; ++k) {
            const double product = double{Rounded(x[row * problem.k + k])} *
                                   Rounded(problem.weights[o * problem.k + k]);
            sum += product;
            magnitude += std::abs(product);
          }
          const int64_t at = row * problem.n + o;
          ASSERT_NEAR(y[at], residual[at] + sum, 1e-6 * (1 + magnitude))
              << problem.n << " x " << problem.k << " rows=" << rows << " row=" << row;
        }
      }
    }
  }
}

// 1 to 64 rows and beyond, wherever a row lies.
TEST_F(CudaLinearTest, ARowsBitsDoNotDependOnTheNumberOfRows) {
  for (const Problem& problem :
       {MakeProblem(100, 129), MakeProblem(576, 1536, 12), MakeProblem(4200, 1024, 8)}) {
    const auto weight = Prepare(*cuda_, problem);
    const std::vector<float> x = Gaussian(200 * problem.k, 9);
    const std::vector<float> all = Multiply(*cuda_, *weight, x);
    std::vector<int64_t> counts = {65, 100, 128, 129};
    for (int64_t rows = 1; rows <= 64; ++rows) counts.push_back(rows);
    for (int64_t rows : counts) {
      const int64_t first = rows % 7;
      const std::vector<float> part(x.begin() + first * problem.k,
                                    x.begin() + (first + rows) * problem.k);
      ASSERT_EQ(BitsOf(Multiply(*cuda_, *weight, part)),
                BitsOf(std::vector<float>(all.begin() + first * problem.n,
                                          all.begin() + (first + rows) * problem.n)))
          << rows;
    }
  }
}

TEST_F(CudaLinearTest, BlocksAddUpToTheSum) {
  for (const Problem& problem :
       {MakeProblem(67, 96, 3), MakeProblem(576, 1536, 12), MakeProblem(33, 48, 4, DType::kF32)}) {
    const auto weight = Prepare(*cuda_, problem);
    for (int64_t rows : {1, 9, 70}) {
      const std::vector<float> x = Gaussian(rows * problem.k, 7);
      const std::vector<float> parts = Partials(*cuda_, *weight, x);
      std::vector<float> sum(parts.begin(), parts.begin() + rows * problem.n);
      for (int64_t b = 1; b < problem.k_blocks; ++b) {
        for (size_t i = 0; i < sum.size(); ++i) sum[i] += parts[b * sum.size() + i];
      }
      ASSERT_EQ(BitsOf(sum), BitsOf(Multiply(*cuda_, *weight, x)));
    }
  }
}

TEST_F(CudaLinearTest, F32HasTheCpusBits) {
  for (const Problem& problem :
       {MakeProblem(95, 35, 1, DType::kF32), MakeProblem(33, 48, 4, DType::kF32),
        MakeProblem(600, 576, 9, DType::kF32)}) {
    const auto weight = Prepare(*cuda_, problem), on_cpu = Prepare(*cpu_, problem);
    for (int64_t rows : {1, 8, 13}) {
      const std::vector<float> x = Gaussian(rows * problem.k, 7);
      ASSERT_EQ(BitsOf(Multiply(*cuda_, *weight, x)), BitsOf(Multiply(*cpu_, *on_cpu, x)));
    }
  }
}

// What norms and gates write for it.
TEST_F(CudaLinearTest, ABf16InputHasTheBitsOfOneThatIsRoundedHere) {
  for (const Problem& problem : {MakeProblem(100, 129), MakeProblem(576, 1536, 12),
                                 MakeProblem(4200, 1024, 8), MakeProblem(33, 100, 4)}) {
    const auto weight = Prepare(*cuda_, problem);
    for (int64_t rows : {1, 9, 70}) {
      const std::vector<float> x = Gaussian(rows * problem.k, 9);
      std::vector<Bf16> rounded;
      for (float value : x) rounded.push_back(ToBf16(value));
      std::vector<float> y(rows * problem.n, NAN);
      cuda_->Linear({.x = TensorView(rounded.data(), DType::kBF16, {rows, problem.k}),
                     .weight = weight.get(),
                     .y = Matrix(y, rows, problem.n)});
      ASSERT_EQ(BitsOf(y), BitsOf(Multiply(*cuda_, *weight, x)));
    }
  }
}

TEST_F(CudaLinearTest, ReadErrorsComeThrough) {
  const LinearSource source{4, 8, 1, DType::kBF16,
                            [](int64_t, int64_t, float*) { return absl::DataLossError("gone"); }};
  EXPECT_EQ(cuda_->PrepareLinear(source).status().message(), "gone");
}

}  // namespace
}  // namespace krait::kernels
