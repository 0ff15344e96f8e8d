// The products of one decoding step of the 8 B hybrid (16 attention and 16 Mamba2 layers), one
// after the other as a CUDA graph, against the read bandwidth measured between its runs.

#include <benchmark/benchmark.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <random>

#include "common/logging.h"
#include "kernels/core/bf16.h"
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/cuda_check.h"
#include "kernels/cuda/cuda_weight.h"
#include "kernels/cuda/read_bandwidth.h"

namespace krait::kernels {
namespace {

constexpr int64_t kMaxRows = 64;
constexpr int64_t kMaxK = 14336, kMaxN = 128256;

struct Product {
  int64_t n, k, k_blocks;
};

std::vector<Product> HybridProducts() {
  std::vector<Product> products;
  for (int layer = 0; layer < 32; ++layer) {
    products.push_back({layer % 2 ? 6144 : 10272, 4096, 1});
    products.push_back({4096, 4096, 8});
    products.push_back({28672, 4096, 1});
    products.push_back({4096, 14336, 8});
  }
  products.push_back({128256, 4096, 1});
  return products;
}

// Everything of the step, made once: the weights alone take a while.
class Chain {
 public:
  static Chain& Get() {
    static Chain* const chain = new Chain;
    return *chain;
  }

  CudaBackend& backend() { return *backend_; }
  int64_t num_bytes() const { return num_bytes_; }

  void Run(int64_t rows) {
    for (const auto& weight : weights_) {
      const TensorView x(x_.ptr<void>(), DType::kBF16, {rows, weight->k()});
      const TensorView y(y_.ptr<void>(), DType::kF32, {rows, weight->n()});
      backend_->Linear({.x = x, .weight = weight.get(), .y = y});
    }
  }

  // Returns the bytes.
  int64_t ReadWeights() {
    int64_t read = 0;
    for (const auto& weight : weights_) {
      const auto& cuda = static_cast<const CudaWeight&>(*weight);
      ReadAll(backend_->context(), cuda.data<void>(), cuda.num_bytes());
      read += cuda.num_bytes();
    }
    return read;
  }

 private:
  Chain() {
    auto backend = CudaBackend::Create(0);
    CHECK(backend.ok()) << backend.status();
    backend_ = *std::move(backend);
    std::mt19937 generator(1);
    std::normal_distribution<float> normal(0, 0.02f);
    std::vector<float> values(1 << 20);
    for (float& value : values) value = normal(generator);
    for (const Product& product : HybridProducts()) {
      LinearSource source{product.n, product.k, product.k_blocks, DType::kBF16, nullptr};
      source.read_rows = [&](int64_t begin, int64_t end, float* out) {
        for (int64_t row = begin; row < end; ++row) {
          const int64_t from = row * 977 % (int64_t{1} << 19);
          std::copy_n(values.data() + from, product.k, out + (row - begin) * product.k);
        }
        return absl::OkStatus();
      };
      auto weight = backend_->PrepareLinear(source);
      CHECK(weight.ok()) << weight.status();
      num_bytes_ += (*weight)->num_bytes();
      weights_.push_back(*std::move(weight));
    }
    x_ = *backend_->Allocate(DType::kF32, {kMaxRows * kMaxK});
    y_ = *backend_->Allocate(DType::kF32, {kMaxRows * kMaxN});
    std::vector<uint16_t> x(kMaxRows * kMaxK);
    for (uint16_t& value : x) value = ToBf16(50 * normal(generator));
    backend_->CopyFromHost(x.data(), TensorView(x_.ptr<void>(), DType::kBF16, {kMaxRows * kMaxK}));
  }

  std::unique_ptr<CudaBackend> backend_;
  std::vector<std::unique_ptr<LinearWeight>> weights_;
  int64_t num_bytes_ = 0;
  Tensor x_, y_;
};

class Stopwatch {
 public:
  explicit Stopwatch(cudaStream_t stream) : stream_(stream) {
    KRAIT_CUDA_CHECK(cudaEventCreate(&begin_));
    KRAIT_CUDA_CHECK(cudaEventCreate(&end_));
  }
  ~Stopwatch() {
    cudaEventDestroy(begin_);
    cudaEventDestroy(end_);
  }
  template <typename Work>
  double Seconds(const Work& work) {
    KRAIT_CUDA_CHECK(cudaEventRecord(begin_, stream_));
    work();
    KRAIT_CUDA_CHECK(cudaEventRecord(end_, stream_));
    KRAIT_CUDA_CHECK(cudaEventSynchronize(end_));
    float ms = 0;
    KRAIT_CUDA_CHECK(cudaEventElapsedTime(&ms, begin_, end_));
    return ms / 1e3;
  }

 private:
  const cudaStream_t stream_;
  cudaEvent_t begin_, end_;
};

double Median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
  return values[values.size() / 2];
}

void BM_CudaModelLinears(benchmark::State& state) {
  Chain& chain = Chain::Get();
  const int64_t rows = state.range(0);
  chain.Run(rows);  // allocates what it needs
  const cudaStream_t stream = chain.backend().context().stream;
  cudaGraph_t graph;
  cudaGraphExec_t executable;
  KRAIT_CUDA_CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  chain.Run(rows);
  KRAIT_CUDA_CHECK(cudaStreamEndCapture(stream, &graph));
  KRAIT_CUDA_CHECK(cudaGraphInstantiate(&executable, graph, 0));
  Stopwatch watch(stream);
  std::vector<double> reads, steps;
  for (auto _ : state) {
    int64_t read = 0;
    reads.push_back(watch.Seconds([&] { read = chain.ReadWeights(); }) / static_cast<double>(read));
    const double seconds =
        watch.Seconds([&] { KRAIT_CUDA_CHECK(cudaGraphLaunch(executable, stream)); });
    steps.push_back(seconds);
    state.SetIterationTime(seconds);
  }
  const double rate = static_cast<double>(chain.num_bytes()) / Median(steps);
  state.counters["GB/s"] = rate / 1e9;
  state.counters["read_GB/s"] = 1 / Median(reads) / 1e9;
  state.counters["fraction"] = rate * Median(reads);
  KRAIT_CUDA_CHECK(cudaGraphExecDestroy(executable));
  KRAIT_CUDA_CHECK(cudaGraphDestroy(graph));
}
BENCHMARK(BM_CudaModelLinears)
    ->ArgName("rows")
    ->Arg(1)
    ->Arg(2)
    ->Arg(5)
    ->Arg(8)
    ->Arg(9)
    ->Arg(16)
    ->Arg(32)
    ->Arg(64)
    ->UseManualTime()
    ->Iterations(20)
    ->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace krait::kernels
