// The recurrence of Mamba2 over many sequences, K = 8 drafts and one token, f32: the op with its
// checkpoints and rings, and what it replaces: a kernel that keeps a snapshot a token. Heads of an
// 8 B model.

#include <benchmark/benchmark.h>

#include "kernels/bench/cuda_stopwatch.h"
#include "kernels/bench/snapshot_kernel.h"
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/read_bandwidth.h"

namespace krait::kernels {
namespace {

constexpr int64_t kHeads = 32, kGroups = 8, kDim = 128;  // P = N
constexpr int64_t kEntry = 2 * kGroups * kDim + kHeads;
constexpr int64_t kXbc = (2 * kGroups + kHeads) * kDim;
constexpr int kInterval = 32, kTokens = 9, kRing = kInterval - 1 + kTokens - 1;

// One layer's states and new tokens of `batch` sequences that are spread over the fold interval.
class Layer {
 public:
  explicit Layer(int batch) : batch_(batch) {
    auto backend = CudaBackend::Create(0);
    CHECK(backend.ok()) << backend.status();
    backend_ = *std::move(backend);
    state_ = Allocate(batch * state_size());
    ring_ = Allocate(batch * kRing * kEntry);
    xbc_ = Allocate(batch * kTokens * kXbc);
    dt_ = Allocate(batch * kTokens * kHeads);
    y_ = Allocate(batch * kTokens * kHeads * kDim);
    per_head_ = Allocate(kHeads);
    std::vector<int32_t> query_start = {0}, slots, first, final_end;
    for (int s = 0; s < batch; ++s) {
      query_start.push_back((s + 1) * kTokens);
      slots.push_back(s);
      first.push_back(kInterval + s % kInterval);
      final_end.push_back(first.back() + 1);
    }
    query_start_ = Upload(query_start);
    slots_ = Upload(slots);
    first_ = Upload(first);
    final_ = Upload(final_end);
  }

  CudaBackend& backend() { return *backend_; }
  static int64_t state_size() { return kHeads * kDim * kDim; }
  const float* state() const { return state_.ptr<float>(); }

  void Update() {
    const RecurrentBatch batch = {.num_sequences = batch_,
                                  .query_start = query_start_.ptr<int32_t>(),
                                  .slots = slots_.ptr<int32_t>(),
                                  .first_position = first_.ptr<int32_t>(),
                                  .final_position = final_.ptr<int32_t>(),
                                  .state_position = first_.ptr<int32_t>()};
    const int64_t tokens = int64_t{batch_} * kTokens;
    const TensorView per_head = View(per_head_, {kHeads});
    backend_->SelectiveStateUpdate({.batch = batch,
                                    .xbc = View(xbc_, {tokens, kXbc}),
                                    .dt = View(dt_, {tokens, kHeads}),
                                    .dt_bias = per_head,
                                    .a = per_head,
                                    .d = per_head,
                                    .state = View(state_, {batch_, kHeads, kDim, kDim}),
                                    .ring = View(ring_, {batch_, kRing, kEntry}),
                                    .fold_interval = kInterval,
                                    .y = View(y_, {tokens, kHeads * kDim})});
  }
  void Snapshot(float* snapshots) {
    RunSnapshots(backend_->context(), {.state = state_.ptr<float>(),
                                       .xbc = xbc_.ptr<float>(),
                                       .dt = dt_.ptr<float>(),
                                       .a = per_head_.ptr<float>(),
                                       .snapshots = snapshots,
                                       .y = y_.ptr<float>(),
                                       .num_sequences = batch_,
                                       .num_tokens = kTokens,
                                       .num_heads = kHeads,
                                       .num_groups = kGroups});
  }

  // Inputs and outputs of the new tokens, of either kernel.
  int64_t TokenBytes() const {
    return batch_ * kTokens * (kXbc + kHeads + kHeads * kDim) * int64_t{sizeof(float)};
  }
  int64_t UpdateBytes() const {
    int64_t floats = batch_ * state_size();
    for (int s = 0; s < batch_; ++s) {
      const int held = s % kInterval;
      floats += (held + kTokens) * kEntry;
      if (held + 1 == kInterval) floats += state_size();  // written
    }
    return TokenBytes() + floats * static_cast<int64_t>(sizeof(float));
  }
  int64_t SnapshotBytes() const {
    return TokenBytes() +
           batch_ * state_size() * (1 + kTokens) * static_cast<int64_t>(sizeof(float));
  }

 private:
  Tensor Allocate(int64_t floats) {
    auto tensor = backend_->Allocate(DType::kF32, {floats});
    CHECK(tensor.ok()) << tensor.status();
    FillNoise(backend_->context(), tensor->ptr<float>(), floats);
    return *std::move(tensor);
  }
  Tensor Upload(const std::vector<int32_t>& values) {
    auto tensor = backend_->Allocate(DType::kI32, {static_cast<int64_t>(values.size())});
    CHECK(tensor.ok()) << tensor.status();
    backend_->CopyFromHost(values.data(), tensor->view());
    return *std::move(tensor);
  }
  static TensorView View(const Tensor& tensor, Shape shape) {
    return TensorView(tensor.ptr<void>(), DType::kF32, shape);
  }

  const int batch_;
  std::unique_ptr<CudaBackend> backend_;
  Tensor state_, ring_, xbc_, dt_, y_, per_head_, query_start_, slots_, first_, final_;
};

void Report(benchmark::State& state, const std::vector<double>& seconds, int64_t bytes,
            double limit) {
  const double rate = static_cast<double>(bytes) / Median(seconds);
  state.counters["median_us"] = 1e6 * Median(seconds);
  state.counters["MB"] = static_cast<double>(bytes) / 1e6;
  state.counters["GB/s"] = rate / 1e9;
  state.counters["limit_GB/s"] = limit / 1e9;
  state.counters["fraction"] = rate / limit;
}

constexpr int64_t kLimitBytes = int64_t{1} << 31;

void BM_CudaStateUpdate(benchmark::State& state) {
  Layer layer(static_cast<int>(state.range(0)));
  auto memory = layer.backend().Allocate(DType::kU8, {kLimitBytes});
  CHECK(memory.ok()) << memory.status();
  const CudaContext& context = layer.backend().context();
  Stopwatch watch(context.stream);
  std::vector<double> reads, updates;
  layer.Update();
  for (auto _ : state) {
    reads.push_back(
        watch.Seconds([&] { ReadAll(context, memory->ptr<void>(), memory->num_bytes()); }));
    updates.push_back(watch.Seconds([&] { layer.Update(); }));
    state.SetIterationTime(updates.back());
  }
  Report(state, updates, layer.UpdateBytes(), static_cast<double>(kLimitBytes) / Median(reads));
}
BENCHMARK(BM_CudaStateUpdate)
    ->ArgName("batch")
    ->Arg(64)
    ->Arg(256)
    ->UseManualTime()
    ->Iterations(20)
    ->Unit(benchmark::kMicrosecond);

void BM_CudaStateSnapshots(benchmark::State& state) {
  Layer layer(static_cast<int>(state.range(0)));
  const int64_t snapshot_bytes = state.range(0) * kTokens * Layer::state_size() * 4;
  auto snapshots = layer.backend().Allocate(DType::kU8, {snapshot_bytes});
  auto from = layer.backend().Allocate(DType::kU8, {kLimitBytes});
  auto to = layer.backend().Allocate(DType::kU8, {kLimitBytes});
  CHECK(snapshots.ok() && from.ok() && to.ok());
  const CudaContext& context = layer.backend().context();
  Stopwatch watch(context.stream);
  std::vector<double> copies, updates;
  layer.Snapshot(snapshots->ptr<float>());
  for (auto _ : state) {
    copies.push_back(watch.Seconds([&] {
      KRAIT_CUDA_CHECK(cudaMemcpyAsync(to->ptr<void>(), from->ptr<void>(), kLimitBytes,
                                       cudaMemcpyDeviceToDevice, context.stream));
    }));
    updates.push_back(watch.Seconds([&] { layer.Snapshot(snapshots->ptr<float>()); }));
    state.SetIterationTime(updates.back());
  }
  // Bytes read and bytes written, in the limit too.
  Report(state, updates, layer.SnapshotBytes(),
         2 * static_cast<double>(kLimitBytes) / Median(copies));
}
BENCHMARK(BM_CudaStateSnapshots)
    ->ArgName("batch")
    ->Arg(64)
    ->Arg(256)
    ->UseManualTime()
    ->Iterations(20)
    ->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace krait::kernels
