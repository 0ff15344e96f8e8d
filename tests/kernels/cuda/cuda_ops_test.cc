// Each CUDA op against the CPU's, and its bits over numbers of rows. Where an op's order of sums is
// the CPU's, or nothing is summed, the bits are the CPU's too.

#include <cmath>
#include <functional>

#include "kernels/core/bf16.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cuda/cuda_backend.h"
#include "tests/kernels/cuda/mirror_backend.h"
#include "tests/kernels/kernel_test_util.h"

namespace krait::kernels {
namespace {

class CudaOpsTest : public ::testing::Test {
 protected:
  using Op = std::function<std::vector<float>(Backend&)>;

  void ExpectCpusBits(const Op& op, const std::string& what) {
    const std::vector<float> expected = op(*cpu_), got = op(*cuda_);
    ASSERT_EQ(expected.size(), got.size());
    ASSERT_EQ(BitsOf(expected), BitsOf(got)) << what;
  }

  const std::unique_ptr<Backend> cpu_ = CreateCpuBackend({});
  const std::unique_ptr<Backend> cuda_ = CreateMirrorBackend();
};

TensorView Vector(std::vector<float>& values) {
  return TensorView(values.data(), DType::kF32, {static_cast<int64_t>(values.size())});
}

TEST_F(CudaOpsTest, EmbeddingTakesRowsOfItsShardAndZeros) {
  for (int64_t hidden : {1, 7, 64, 576, 1000}) {
    for (bool bf16 : {false, true}) {
      ExpectCpusBits(
          [&](Backend& backend) {
            std::vector<float> table = Gaussian(20 * hidden, 1);
            std::vector<Bf16> rounded;
            for (float value : table) rounded.push_back(ToBf16(value));
            const std::vector<int32_t> ids = {5, 24, 4, 12, 25, 5, 1000};
            std::vector<float> out(ids.size() * hidden, NAN);
            backend.Embedding({.table = bf16
                                            ? TensorView(rounded.data(), DType::kBF16, {20, hidden})
                                            : Matrix(table, 20, hidden),
                               .ids = ids.data(),
                               .first_id = 5,
                               .out = Matrix(out, ids.size(), hidden)});
            return out;
          },
          std::to_string(hidden));
    }
  }
}

TEST_F(CudaOpsTest, BiasAndBlockSumsHaveTheCpusBits) {
  for (int64_t n : {1, 7, 300, 4096}) {
    for (int64_t rows : {1, 3, 70}) {
      ExpectCpusBits(
          [&](Backend& backend) {
            std::vector<float> x = Gaussian(rows * n, 1), bias = Gaussian(n, 2);
            backend.AddLinearBias({.x = Matrix(x, rows, n), .bias = Vector(bias)});
            return x;
          },
          "bias");
      for (bool residual : {false, true}) {
        ExpectCpusBits(
            [&](Backend& backend) {
              std::vector<float> blocks = Gaussian(3 * rows * n, 1), out = Gaussian(rows * n, 2);
              const float* parts[] = {blocks.data(), blocks.data() + rows * n,
                                      blocks.data() + 2 * rows * n};
              const TensorView view = Matrix(out, rows, n);
              backend.SumBlocks(
                  {.blocks = parts, .residual = residual ? &view : nullptr, .out = view});
              return out;
            },
            "blocks");
      }
    }
  }
}

std::vector<float> RunRmsNorm(Backend& backend, std::vector<float> x, int64_t n) {
  std::vector<float> weight = Gaussian(n, 2), y(x.size(), NAN);
  const auto rows = static_cast<int64_t>(x.size()) / n;
  backend.RmsNorm(
      {.x = Matrix(x, rows, n), .weight = Vector(weight), .eps = 1e-5f, .y = Matrix(y, rows, n)});
  return y;
}

TEST_F(CudaOpsTest, RmsNormAgreesWithTheCpuAndARowsBitsAreItsOwn) {
  for (int64_t n : {1, 7, 63, 256, 576, 1000, 4096, 8200}) {
    const std::vector<float> x = Gaussian(90 * n, 1, 3.0f);
    const std::vector<float> cpu = RunRmsNorm(*cpu_, x, n), cuda = RunRmsNorm(*cuda_, x, n);
    for (size_t i = 0; i < x.size(); ++i) {
      ASSERT_NEAR(cpu[i], cuda[i], 2e-6 * (1 + std::abs(cpu[i]))) << n;
    }
    for (int64_t row : {0, 41, 89}) {
      const std::vector<float> alone(x.begin() + row * n, x.begin() + (row + 1) * n);
      ASSERT_EQ(BitsOf(RunRmsNorm(*cuda_, alone, n)),
                BitsOf(std::vector<float>(cuda.begin() + row * n, cuda.begin() + (row + 1) * n)));
    }
  }
}

TEST_F(CudaOpsTest, RopeHasTheCpusBits) {
  for (int64_t head_dim : {2, 8, 64, 80, 128}) {
    ExpectCpusBits(
        [&](Backend& backend) {
          std::vector<int32_t> positions = {0, 5, 63, 5};
          std::vector<float> x = Gaussian(4 * 5 * head_dim, 4), cos = Gaussian(32 * head_dim, 5),
                             sin = Gaussian(32 * head_dim, 6);
          // Three heads of rows that are wider.
          backend.Rope({.x = Matrix(x, 4, 5 * head_dim)
                                 .Columns(head_dim, 4 * head_dim)
                                 .WithShape({4, 3, head_dim}),
                        .positions = positions.data(),
                        .cos = Matrix(cos, 64, head_dim / 2),
                        .sin = Matrix(sin, 64, head_dim / 2)});
          return x;
        },
        std::to_string(head_dim));
  }
}

TEST_F(CudaOpsTest, SiluMulHasTheCpusBits) {
  for (int64_t n : {1, 9, 256, 1536, 14336}) {
    ExpectCpusBits(
        [&](Backend& backend) {
          std::vector<float> gate_up = Gaussian(3 * 2 * n, 1, 20.0f), y(3 * n, NAN);
          backend.SiluMul({.gate_up = Matrix(gate_up, 3, 2 * n), .y = Matrix(y, 3, n)});
          return y;
        },
        std::to_string(n));
  }
}

TEST_F(CudaOpsTest, GatedRmsNormHasTheCpusBits) {
  for (int64_t size : {8, 64, 128, 576}) {
    for (int64_t groups : {1, 3, 64}) {
      ExpectCpusBits(
          [&](Backend& backend) {
            const int64_t n = size * groups;
            std::vector<float> y = Gaussian(5 * n, 1), z = Gaussian(5 * n, 2),
                               weight = Gaussian(n, 3);
            backend.GatedRmsNorm({.y = Matrix(y, 5, n),
                                  .z = Matrix(z, 5, n),
                                  .weight = Vector(weight),
                                  .group_size = size,
                                  .out = Matrix(y, 5, n)});
            return y;
          },
          std::to_string(size));
    }
  }
}

TEST_F(CudaOpsTest, KvAppendWritesItsSlotsOnly) {
  for (int64_t head_dim : {8, 64, 128}) {
    ExpectCpusBits(
        [&](Backend& backend) {
          std::vector<float> kv = Gaussian(4 * 6 * head_dim, 1);
          std::vector<float> cache(2 * 5 * 3 * 4 * head_dim, NAN);
          const std::vector<int64_t> slots = {19, -1, 0, 6};
          const TensorView rows = Matrix(kv, 4, 6 * head_dim);
          const Shape pages = {5, 3, 4, head_dim};
          backend.KvAppend(
              {.k = rows.Columns(0, 3 * head_dim).WithShape({4, 3, head_dim}),
               .v = rows.Columns(3 * head_dim, 6 * head_dim).WithShape({4, 3, head_dim}),
               .slots = slots.data(),
               .k_cache = TensorView(cache.data(), DType::kF32, pages),
               .v_cache = TensorView(cache.data() + cache.size() / 2, DType::kF32, pages)});
          return cache;
        },
        std::to_string(head_dim));
  }
}

// What Rope and KvAppend leave.
TEST_F(CudaOpsTest, RotateAppendHasTheCpusBits) {
  for (int64_t head_dim : {8, 64, 128}) {
    ExpectCpusBits(
        [&](Backend& backend) {
          std::vector<float> q = Gaussian(4 * 6 * head_dim, 1), k = Gaussian(4 * 3 * head_dim, 2),
                             v = Gaussian(4 * 3 * head_dim, 3), cos = Gaussian(32 * head_dim, 5),
                             sin = Gaussian(32 * head_dim, 6);
          std::vector<float> cache(2 * 5 * 3 * 4 * head_dim, NAN);
          const std::vector<int32_t> positions = {0, 5, 63, 5};
          const std::vector<int64_t> slots = {19, -1, 0, 6};
          const Shape pages = {5, 3, 4, head_dim};
          const auto heads = [&](std::vector<float>& values, int64_t count) {
            return TensorView(values.data(), DType::kF32, {4, count, head_dim});
          };
          backend.RotateAppend(
              {.q = heads(q, 6),
               .k = heads(k, 3),
               .v = heads(v, 3),
               .positions = positions.data(),
               .cos = Matrix(cos, 64, head_dim / 2),
               .sin = Matrix(sin, 64, head_dim / 2),
               .slots = slots.data(),
               .k_cache = TensorView(cache.data(), DType::kF32, pages),
               .v_cache = TensorView(cache.data() + cache.size() / 2, DType::kF32, pages)});
          q.insert(q.end(), cache.begin(), cache.end());
          return q;
        },
        std::to_string(head_dim));
  }
}

TEST_F(CudaOpsTest, ACacheInBf16HoldsTheRoundedKeysAndValues) {
  const int64_t head_dim = 64;
  std::vector<float> k = Gaussian(2 * 3 * head_dim, 1), v = Gaussian(2 * 3 * head_dim, 2);
  std::vector<float> full(2 * 2 * 3 * 4 * head_dim, 0);
  std::vector<Bf16> rounded(full.size(), 0);
  const std::vector<int64_t> slots = {7, 2};
  const auto append = [&](void* keys, void* values, DType dtype) {
    const Shape rows = {2, 3, head_dim}, pages = {2, 3, 4, head_dim};
    cuda_->KvAppend({.k = TensorView(k.data(), DType::kF32, rows),
                     .v = TensorView(v.data(), DType::kF32, rows),
                     .slots = slots.data(),
                     .k_cache = TensorView(keys, dtype, pages),
                     .v_cache = TensorView(values, dtype, pages)});
  };
  append(full.data(), full.data() + full.size() / 2, DType::kF32);
  append(rounded.data(), rounded.data() + rounded.size() / 2, DType::kBF16);
  for (size_t i = 0; i < full.size(); ++i) ASSERT_EQ(ToBf16(full[i]), rounded[i]) << i;
}

// The result in f32, rounded.
TEST_F(CudaOpsTest, Bf16ResultsAreTheRoundedOnes) {
  const int64_t n = 640;
  std::vector<float> a = Gaussian(3 * 2 * n, 1), weight = Gaussian(n, 2), exact(3 * n, NAN);
  std::vector<Bf16> rounded(3 * n, 0x7fc0);
  const TensorView wide = Matrix(a, 3, 2 * n), f32 = Matrix(exact, 3, n);
  const TensorView bf16(rounded.data(), DType::kBF16, {3, n});
  const auto expect_rounded = [&](const char* op) {
    for (int64_t i = 0; i < 3 * n; ++i) ASSERT_EQ(ToBf16(exact[i]), rounded[i]) << op << " " << i;
  };
  for (const TensorView& y : {f32, bf16}) {
    cuda_->RmsNorm({.x = wide.Columns(0, n), .weight = Vector(weight), .y = y});
  }
  expect_rounded("RmsNorm");
  for (const TensorView& y : {f32, bf16}) cuda_->SiluMul({.gate_up = wide, .y = y});
  expect_rounded("SiluMul");
  for (const TensorView& y : {f32, bf16}) {
    cuda_->GatedRmsNorm({.y = wide.Columns(0, n),
                         .z = wide.Columns(n, 2 * n),
                         .weight = Vector(weight),
                         .group_size = 64,
                         .out = y});
  }
  expect_rounded("GatedRmsNorm");
}

// A recorded product reads what its memory holds when it runs.
TEST_F(CudaOpsTest, RecordedOpsRunAgain) {
  auto created = CudaBackend::Create(0);
  ASSERT_TRUE(created.ok()) << created.status();
  CudaBackend& backend = **created;
  const int64_t n = 100;
  const Tensor x = *backend.Allocate(DType::kF32, {1, n});
  std::vector<float> bias = Gaussian(n, 2), values = Gaussian(n, 3), got(n);
  const Tensor added = *backend.Allocate(DType::kF32, {n});
  backend.CopyFromHost(bias.data(), added.view());
  const auto ops = [&] {
    backend.AddLinearBias({.x = x.view(), .bias = added.view()});
    backend.AddLinearBias({.x = x.view(), .bias = added.view()});
  };
  const std::unique_ptr<RecordedOps> recorded = backend.Record(ops);
  for (int run = 0; run < 3; ++run) {
    backend.CopyFromHost(values.data(), x.view());
    recorded->Run();
    backend.CopyToHost(x.view(), got.data());
    for (int64_t i = 0; i < n; ++i) ASSERT_EQ(got[i], values[i] + bias[i] + bias[i]);
    for (float& value : values) value += 1;
  }
}

TEST_F(CudaOpsTest, NoiseHasTheCpusBits) {
  auto backend = CudaBackend::Create(0);
  ASSERT_TRUE(backend.ok()) << backend.status();
  constexpr int64_t kPiece = int64_t{1} << 20;
  const GumbelKey key = {.seed = 0x123456789abcdefull, .position = 77, .choice = 3};
  std::vector<float> cpu(kPiece), cuda(kPiece);
  for (int64_t first = 0; first < int64_t{1} << 24; first += kPiece) {
    const auto id = static_cast<TokenId>(first);
    FillGumbel(SupportedTargets().back(), key, id, absl::MakeSpan(cpu));
    FillGumbel((*backend)->context(), key, id, absl::MakeSpan(cuda));
    ASSERT_EQ(0, std::memcmp(cpu.data(), cuda.data(), kPiece * sizeof(float))) << first;
  }
}

}  // namespace
}  // namespace krait::kernels
