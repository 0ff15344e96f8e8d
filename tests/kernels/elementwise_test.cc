// RmsNorm, Rope, SiluMul, AddLinearBias, SumBlocks, Embedding, KvAppend.

#include <cmath>

#include "kernels/core/bf16.h"
#include "kernels/cpu/cpu_ops.h"
#include "tests/kernels/kernel_test_util.h"

namespace krait::kernels {
namespace {

class ElementwiseTest : public ::testing::TestWithParam<BackendVariant> {
 protected:
  const std::unique_ptr<Backend> backend_ = MakeBackend(GetParam());
  const std::unique_ptr<Backend> plain_ = MakeBackend(PlainVariant());
};
INSTANTIATE_TEST_SUITE_P(Variants, ElementwiseTest, ::testing::ValuesIn(AllVariants()),
                         ::testing::PrintToStringParamName());

std::vector<float> RunRmsNorm(Backend& backend, std::vector<float> x, int64_t rows, int64_t n) {
  std::vector<float> weight = Gaussian(n, 2), y(rows * n);
  backend.RmsNorm({.x = Matrix(x, rows, n),
                   .weight = TensorView(weight.data(), DType::kF32, {n}),
                   .eps = 1e-5f,
                   .y = Matrix(y, rows, n)});
  return y;
}

TEST_P(ElementwiseTest, RmsNormAgreesWithDoublePrecisionAndThePlainTwin) {
  for (int64_t n : {1, 7, 8, 63, 576, 1000}) {
    for (int64_t rows : {1, 3, 90}) {
      const std::vector<float> x = Gaussian(rows * n, 1, 3.0f), weight = Gaussian(n, 2);
      const std::vector<float> y = RunRmsNorm(*backend_, x, rows, n);
      for (int64_t t = 0; t < rows; ++t) {
        double squares = 0;
        for (int64_t i = 0; i < n; ++i) squares += double{x[t * n + i]} * x[t * n + i];
        for (int64_t i = 0; i < n; ++i) {
          const double expected = x[t * n + i] / std::sqrt(squares / n + 1e-5) * weight[i];
          ASSERT_NEAR(y[t * n + i], expected, 2e-6 * (1 + std::abs(expected))) << n;
        }
      }
      ASSERT_EQ(BitsOf(y), BitsOf(RunRmsNorm(*plain_, x, rows, n))) << n;
      const std::vector<float> last(x.end() - n, x.end());
      ASSERT_EQ(BitsOf(RunRmsNorm(*backend_, last, 1, n)),
                BitsOf(std::vector<float>(y.end() - n, y.end())));
    }
  }
}

std::vector<float> RunRope(Backend& backend, std::vector<float> x, std::vector<int32_t> positions,
                           int64_t heads, int64_t head_dim) {
  const int64_t half = head_dim / 2, max_positions = 64;
  std::vector<float> cos, sin;
  for (int64_t position = 0; position < max_positions; ++position) {
    for (int64_t i = 0; i < half; ++i) {
      const double angle = position * std::pow(10000.0, -2.0 * i / head_dim);
      cos.push_back(static_cast<float>(std::cos(angle)));
      sin.push_back(static_cast<float>(std::sin(angle)));
    }
  }
  const int64_t rows = positions.size();
  backend.Rope({.x = TensorView(x.data(), DType::kF32, {rows, heads, head_dim}),
                .positions = positions.data(),
                .cos = Matrix(cos, max_positions, half),
                .sin = Matrix(sin, max_positions, half)});
  return x;
}

TEST_P(ElementwiseTest, RopeRotatesHalvesByThePosition) {
  for (int64_t head_dim : {2, 8, 64, 80}) {
    const std::vector<int32_t> positions = {0, 5, 63, 5};
    const std::vector<float> x = Gaussian(4 * 3 * head_dim, 4);
    const std::vector<float> y = RunRope(*backend_, x, positions, 3, head_dim);
    for (int64_t i = 0; i < 4 * 3 * head_dim; ++i) {
      const int64_t d = i % head_dim, half = head_dim / 2, pair = d % half;
      const double angle =
          positions[i / (3 * head_dim)] * std::pow(10000.0, -2.0 * pair / head_dim);
      const double a = x[i - d + pair], b = x[i - d + pair + half];
      const double expected = d < half ? a * std::cos(angle) - b * std::sin(angle)
                                       : b * std::cos(angle) + a * std::sin(angle);
      ASSERT_NEAR(y[i], expected, 1e-6) << head_dim << " element " << i;
    }
    ASSERT_EQ(BitsOf(y), BitsOf(RunRope(*plain_, x, positions, 3, head_dim)));
  }
}

std::vector<float> RunSiluMul(Backend& backend, std::vector<float> gate_up, int64_t rows,
                              int64_t n) {
  std::vector<float> y(rows * n);
  backend.SiluMul({.gate_up = Matrix(gate_up, rows, 2 * n), .y = Matrix(y, rows, n)});
  return y;
}

TEST_P(ElementwiseTest, SiluMulAgreesWithDoublePrecisionAndThePlainTwin) {
  for (int64_t n : {1, 9, 64, 1536}) {
    for (int64_t rows : {1, 4, 20}) {
      const std::vector<float> x = Gaussian(rows * 2 * n, 5, 8.0f);
      const std::vector<float> y = RunSiluMul(*backend_, x, rows, n);
      for (int64_t i = 0; i < rows * n; ++i) {
        const double gate = x[i / n * 2 * n + i % n], up = x[i / n * 2 * n + n + i % n];
        const double expected = gate / (1 + std::exp(-gate)) * up;
        ASSERT_NEAR(y[i], expected, 1e-6 * (1e-3 + std::abs(expected)));
      }
      ASSERT_EQ(BitsOf(y), BitsOf(RunSiluMul(*plain_, x, rows, n)));
    }
  }
}

TEST_P(ElementwiseTest, SiluMulOfHugeGates) {
  const std::vector<float> y =
      RunSiluMul(*backend_, {-200.0f, 200.0f, -1e30f, 1e30f, 2.0f, 2.0f, 2.0f, 2.0f}, 1, 4);
  EXPECT_EQ(y, (std::vector<float>{0.0f, 400.0f, 0.0f, 2e30f}));
}

TEST_P(ElementwiseTest, ExpOfVectorsHasTheBitsOfTheScalarOne) {
  std::vector<float> values = Gaussian(1 << 16, 8, 40.0f);
  values.insert(values.end(), {INFINITY, -INFINITY, NAN, -104.0f, 89.0f, 0.0f, -0.0f});
  std::vector<float> scalar = values;
  for (float& value : scalar) value = fast_math::Exp(value);
  FillExp(TargetFromName(GetParam().target), absl::MakeSpan(values));
  EXPECT_EQ(BitsOf(values), BitsOf(scalar));
}

TEST_P(ElementwiseTest, AddLinearBiasAddsToStridedRowsAndNothingElse) {
  for (int64_t n : {1, 7, 8, 37, 576}) {
    const int64_t rows = 70, width = n + 3;
    const std::vector<float> before = Gaussian(rows * width, 6);
    std::vector<float> x = before, bias = Gaussian(n, 7);
    backend_->AddLinearBias({.x = Matrix(x, rows, width).Columns(1, 1 + n),
                             .bias = TensorView(bias.data(), DType::kF32, {n})});
    for (int64_t i = 0; i < rows * width; ++i) {
      const int64_t column = i % width - 1;
      ASSERT_EQ(x[i], column < 0 || column >= n ? before[i] : before[i] + bias[column]) << n;
    }
  }
}

TEST_P(ElementwiseTest, SumBlocksAddsInOrderAndTheResidualLast) {
  const int64_t rows = 30, n = 37;
  std::vector<std::vector<float>> blocks;
  std::vector<const float*> pointers;
  for (uint32_t b = 0; b < 5; ++b) blocks.push_back(Gaussian(rows * n, b));
  for (const auto& block : blocks) pointers.push_back(block.data());
  std::vector<float> out = Gaussian(rows * n, 77);
  const std::vector<float> residual = out;
  const TensorView view = Matrix(out, rows, n);
  backend_->SumBlocks({.blocks = pointers, .residual = &view, .out = view});
  for (int64_t i = 0; i < rows * n; ++i) {
    const float sum =
        (((blocks[0][i] + blocks[1][i]) + blocks[2][i]) + blocks[3][i]) + blocks[4][i];
    ASSERT_EQ(out[i], residual[i] + sum) << i;
  }
}

TEST_P(ElementwiseTest, EmbeddingCopiesOwnRowsAndHasMinusZeroForOthers) {
  std::vector<float> table = Gaussian(4 * 5, 3);
  std::vector<Bf16> rounded;
  for (float value : table) rounded.push_back(ToBf16(value));
  const std::vector<int32_t> ids = {13, 10, 9, 14, 10};  // the shard holds 10..13
  for (DType dtype : {DType::kF32, DType::kBF16}) {
    void* data = dtype == DType::kF32 ? static_cast<void*>(table.data()) : rounded.data();
    std::vector<float> out(25, NAN);
    backend_->Embedding({.table = TensorView(data, dtype, {4, 5}),
                         .ids = ids.data(),
                         .first_id = 10,
                         .out = Matrix(out, 5, 5)});
    for (int i = 0; i < 25; ++i) {
      const int id = ids[i / 5];
      const float value = id < 10 || id > 13 ? -0.0f : table[(id - 10) * 5 + i % 5];
      ASSERT_EQ(out[i], dtype == DType::kF32 ? value : FromBf16(ToBf16(value))) << i;
      ASSERT_EQ(std::signbit(out[i]), std::signbit(value)) << i;
    }
  }
}

TEST_P(ElementwiseTest, KvAppendWritesEachTokensSlotAndNothingElse) {
  const int64_t pages = 3, heads = 2, page_size = 4, head_dim = 8, tokens = 3;
  std::vector<float> k = Gaussian(tokens * heads * head_dim, 1), v = Gaussian(k.size(), 2);
  std::vector<float> k_cache(pages * heads * page_size * head_dim, -1.0f), v_cache = k_cache;
  const std::vector<int64_t> slots = {9, -1, 0};  // page 2 offset 1; skipped; page 0 offset 0
  const Shape rows = {tokens, heads, head_dim}, cache = {pages, heads, page_size, head_dim};
  backend_->KvAppend({.k = TensorView(k.data(), DType::kF32, rows),
                      .v = TensorView(v.data(), DType::kF32, rows),
                      .slots = slots.data(),
                      .k_cache = TensorView(k_cache.data(), DType::kF32, cache),
                      .v_cache = TensorView(v_cache.data(), DType::kF32, cache)});
  std::vector<float> k_expected(k_cache.size(), -1.0f), v_expected = k_expected;
  for (int64_t t : {0, 2}) {
    for (int64_t i = 0; i < heads * head_dim; ++i) {
      const int64_t head = i / head_dim, slot = slots[t];
      const int64_t at =
          ((slot / page_size * heads + head) * page_size + slot % page_size) * head_dim +
          i % head_dim;
      k_expected[at] = k[t * heads * head_dim + i];
      v_expected[at] = v[t * heads * head_dim + i];
    }
  }
  EXPECT_EQ(k_cache, k_expected);
  EXPECT_EQ(v_cache, v_expected);
}

TEST_P(ElementwiseTest, CopiesBetweenHostAndStridedViews) {
  std::vector<float> device(3 * 7, 0.0f), back(6);
  const TensorView columns = Matrix(device, 3, 7).Columns(2, 4);
  const std::vector<float> host = {1, 2, 3, 4, 5, 6};
  backend_->CopyFromHost(host.data(), columns);
  backend_->CopyToHost(columns, back.data());
  EXPECT_EQ(back, host);
  EXPECT_EQ(device[7 + 3], 4.0f);
  EXPECT_EQ(device[7 + 4], 0.0f);
}

}  // namespace
}  // namespace krait::kernels
