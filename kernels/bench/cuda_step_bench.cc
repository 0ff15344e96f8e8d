// Decoding steps of an 8 B model, op by op as the worker calls them, as one CUDA graph; and its
// products alone. Against the read bandwidth measured between the runs.

#include <benchmark/benchmark.h>

#include "kernels/bench/cuda_step_memory.h"
#include "kernels/bench/cuda_step_weights.h"
#include "kernels/bench/cuda_stopwatch.h"
#include "kernels/cuda/cuda_check.h"
#include "kernels/cuda/read_bandwidth.h"

namespace krait::kernels {
namespace {

constexpr int64_t kMaxRows = 64, kTableRows = 1024;
constexpr int64_t kLimitBytes = int64_t{4} << 30;
constexpr int kRingLength = kFoldInterval - 1 + 16, kConvRingLength = kConvTaps - 1 + 16;

// Everything that steps need, made once.
class StepModel {
 public:
  static StepModel& Get() {
    static StepModel* const model = new StepModel;
    return *model;
  }

  CudaBackend& backend() { return *backend_; }
  StepMemory& memory() { return memory_; }
  const StepWeights& weights() const { return weights_; }

  void RunStep(const StepCase& c) {
    backend_->Embedding({.table = View(table_, DType::kBF16, {kTableRows, kHidden}),
                         .ids = ids_.ptr<int32_t>(),
                         .out = Hidden(c)});
    for (int layer = 0; layer < kLayers; ++layer) {
      Norm(c);
      if (c.IsMamba(layer)) {
        Mamba(c, layer);
      } else {
        Attention(c, layer);
      }
      Norm(c);
      Mlp(c, layer);
    }
    Norm(c);
    Multiply(weights_.head(), Normed(c), Logits(c), nullptr);
  }

  void RunProducts(const StepCase& c) {
    for (int layer = 0; layer < kLayers; ++layer) {
      const TensorView hidden = Hidden(c);
      if (c.IsMamba(layer)) {
        Multiply(weights_.in(layer), Normed(c), Projected(c, kInWidth), nullptr);
      } else {
        Multiply(weights_.qkv(layer), Normed(c), Projected(c, kQkvWidth), nullptr);
      }
      Multiply(weights_.out(layer), Mixed(c), hidden, &hidden);
      Multiply(weights_.gate_up(layer), Normed(c), GateUp(c), nullptr);
      Multiply(weights_.down(layer), Activated(c), hidden, &hidden);
    }
    Multiply(weights_.head(), Normed(c), Logits(c), nullptr);
  }

  // What nothing that reads can be faster than.
  double ReadLimit(Stopwatch& watch) {
    const double seconds = watch.Seconds(
        [&] { ReadAll(backend_->context(), streamed_.ptr<void>(), streamed_.num_bytes()); });
    return static_cast<double>(streamed_.num_bytes()) / seconds;
  }

 private:
  StepModel() {
    streamed_ = memory_.Allocate(DType::kU8, kLimitBytes);
    table_ = memory_.Allocate(DType::kBF16, kTableRows * kHidden);
    hidden_ = memory_.Filled(kMaxRows * kHidden);
    normed_ = memory_.Allocate(DType::kBF16, kMaxRows * kHidden);
    projected_ = memory_.Filled(kMaxRows * kInWidth);
    convolved_ = memory_.Filled(kMaxRows * kXbcSize);
    mixed_ = memory_.Allocate(DType::kBF16, kMaxRows * kHidden);
    gate_up_rows_ = memory_.Filled(kMaxRows * 2 * kInner);
    activated_ = memory_.Allocate(DType::kBF16, kMaxRows * kInner);
    logits_ = memory_.Allocate(DType::kF32, kMaxRows * kVocab);
    norm_weight_ = memory_.Filled(kHidden, 50);
    cos_ = memory_.Filled(StepMemory::kMaxContext * kHeadDim / 2);
    sin_ = memory_.Filled(StepMemory::kMaxContext * kHeadDim / 2);
    conv_weight_ = memory_.Filled(kConvTaps * kXbcSize, 50);
    conv_bias_ = memory_.Filled(kXbcSize);
    memory_.Upload(a_, std::vector<float>(kHeads, -1.0f));
    memory_.Upload(ids_, std::vector<int32_t>(kMaxRows, 7));
    for (int layer = 0; layer < kLayers; ++layer) {
      constexpr int64_t kPlane = StepMemory::kMaxContext * kKvHeads * kHeadDim;
      keys_.push_back(memory_.Allocate(kCacheType, kPlane));
      values_.push_back(memory_.Allocate(kCacheType, kPlane));
      states_.push_back(memory_.Filled(kHeads * kStateDim * kStateDim));
      rings_.push_back(memory_.Filled(kRingLength * kRingWidth));
      conv_rings_.push_back(memory_.Filled(kConvRingLength * kXbcSize));
    }
  }

  static std::unique_ptr<CudaBackend> MakeBackend() {
    auto backend = CudaBackend::Create(0);
    CHECK(backend.ok()) << backend.status();
    return *std::move(backend);
  }

  static TensorView View(const Tensor& tensor, DType dtype, Shape shape) {
    return TensorView(tensor.ptr<void>(), dtype, shape);
  }
  TensorView F32(const Tensor& tensor, Shape shape) const {
    return View(tensor, DType::kF32, shape);
  }
  TensorView Hidden(const StepCase& c) const { return F32(hidden_, {c.rows, kHidden}); }
  TensorView Normed(const StepCase& c) const {
    return View(normed_, DType::kBF16, {c.rows, kHidden});
  }
  TensorView Mixed(const StepCase& c) const {
    return View(mixed_, DType::kBF16, {c.rows, kHidden});
  }
  TensorView Projected(const StepCase& c, int64_t n) const { return F32(projected_, {c.rows, n}); }
  TensorView GateUp(const StepCase& c) const { return F32(gate_up_rows_, {c.rows, 2 * kInner}); }
  TensorView Activated(const StepCase& c) const {
    return View(activated_, DType::kBF16, {c.rows, kInner});
  }
  TensorView Logits(const StepCase& c) const { return F32(logits_, {c.rows, kVocab}); }

  void Multiply(const LinearWeight& weight, const TensorView& x, const TensorView& y,
                const TensorView* residual) {
    backend_->Linear({.x = x, .weight = &weight, .y = y, .residual = residual});
  }
  void Norm(const StepCase& c) {
    backend_->RmsNorm({.x = Hidden(c), .weight = F32(norm_weight_, {kHidden}), .y = Normed(c)});
  }

  void Attention(const StepCase& c, int layer) {
    const TensorView qkv = Projected(c, kQkvWidth), hidden = Hidden(c);
    Multiply(weights_.qkv(layer), Normed(c), qkv, nullptr);
    const auto heads = [&](int64_t first, int64_t count) {
      return qkv.Columns(first * kHeadDim, (first + count) * kHeadDim)
          .WithShape({c.rows, count, kHeadDim});
    };
    const TensorView q = heads(0, kHeads), k = heads(kHeads, kKvHeads);
    const Shape table = {StepMemory::kMaxContext, kHeadDim / 2};
    const Shape plane = {StepMemory::kPages, kKvHeads, StepMemory::kPageSize, kHeadDim};
    const TensorView keys = View(keys_[layer], kCacheType, plane);
    const TensorView values = View(values_[layer], kCacheType, plane);
    backend_->RotateAppend({.q = q,
                            .k = k,
                            .v = heads(kHeads + kKvHeads, kKvHeads),
                            .positions = memory_.positions.ptr<int32_t>(),
                            .cos = F32(cos_, table),
                            .sin = F32(sin_, table),
                            .slots = memory_.slots.ptr<int64_t>(),
                            .k_cache = keys,
                            .v_cache = values});
    backend_->PagedAttention({.q = q,
                              .k_cache = keys,
                              .v_cache = values,
                              .num_sequences = 1,
                              .query_start = memory_.query_start.ptr<int32_t>(),
                              .positions = memory_.positions.ptr<int32_t>(),
                              .page_table = memory_.page_table.ptr<int32_t>(),
                              .page_table_stride = StepMemory::kPages,
                              .scale = 0.088f,
                              .out = Mixed(c)});
    Multiply(weights_.out(layer), Mixed(c), hidden, &hidden);
  }

  void Mamba(const StepCase& c, int layer) {
    const TensorView projected = Projected(c, kInWidth), hidden = Hidden(c);
    Multiply(weights_.in(layer), Normed(c), projected, nullptr);
    const RecurrentBatch batch = memory_.recurrent();
    const TensorView convolved = F32(convolved_, {c.rows, kXbcSize});
    backend_->CausalConv1d({.batch = batch,
                            .x = projected.Columns(kHidden, kHidden + kXbcSize),
                            .weight = F32(conv_weight_, {kConvTaps, kXbcSize}),
                            .bias = F32(conv_bias_, {kXbcSize}),
                            .ring = F32(conv_rings_[layer], {1, kConvRingLength, kXbcSize}),
                            .out = convolved});
    const TensorView y = projected.Columns(kHidden, 2 * kHidden);
    const TensorView per_head = F32(a_, {kHeads});
    backend_->SelectiveStateUpdate(
        {.batch = batch,
         .xbc = convolved,
         .dt = projected.Columns(kHidden + kXbcSize, kHidden + kXbcSize + kHeads),
         .dt_bias = per_head,
         .a = per_head,
         .d = per_head,
         .state = F32(states_[layer], {1, kHeads, kStateDim, kStateDim}),
         .ring = F32(rings_[layer], {1, kRingLength, kRingWidth}),
         .fold_interval = kFoldInterval,
         .y = y});
    backend_->GatedRmsNorm({.y = y,
                            .z = projected.Columns(0, kHidden),
                            .weight = F32(norm_weight_, {kHidden}),
                            .group_size = kStateDim,
                            .out = Mixed(c)});
    Multiply(weights_.out(layer), Mixed(c), hidden, &hidden);
  }

  void Mlp(const StepCase& c, int layer) {
    const TensorView hidden = Hidden(c);
    Multiply(weights_.gate_up(layer), Normed(c), GateUp(c), nullptr);
    backend_->SiluMul({.gate_up = GateUp(c), .y = Activated(c)});
    Multiply(weights_.down(layer), Activated(c), hidden, &hidden);
  }

  const std::unique_ptr<CudaBackend> backend_ = MakeBackend();
  const std::vector<float> noise_ = MakeNoise();
  const StepWeights weights_{*backend_, noise_};
  StepMemory memory_{*backend_, noise_};
  Tensor table_, hidden_, normed_, projected_, convolved_, mixed_, gate_up_rows_, activated_,
      logits_, norm_weight_, cos_, sin_, conv_weight_, conv_bias_, a_, ids_;
  Tensor streamed_;
  std::vector<Tensor> keys_, values_, states_, rings_, conv_rings_;
};

template <typename Ops>
void Measure(benchmark::State& state, const StepCase& c, int64_t bytes, const Ops& ops) {
  StepModel& model = StepModel::Get();
  model.memory().Prepare(c);
  ops();  // allocates what it needs
  const std::unique_ptr<RecordedOps> graph = model.backend().Record(ops);
  Stopwatch watch(model.backend().context().stream);
  graph->Run();
  std::vector<double> limits, steps;
  for (auto _ : state) {
    limits.push_back(model.ReadLimit(watch));
    steps.push_back(watch.Seconds([&] { graph->Run(); }));
    state.SetIterationTime(steps.back());
  }
  const double rate = static_cast<double>(bytes) / Median(steps);
  state.counters["median_ms"] = 1e3 * Median(steps);
  state.counters["GB/s"] = rate / 1e9;
  state.counters["limit_GB/s"] = Median(limits) / 1e9;
  state.counters["fraction"] = rate / Median(limits);
}

void BM_CudaModelLinears(benchmark::State& state) {
  const StepCase c = {Kind::kHybrid, state.range(0), 128};
  StepModel& model = StepModel::Get();
  Measure(state, c, model.weights().BytesOf(c), [&] { model.RunProducts(c); });
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

void BM_CudaDecodeStep(benchmark::State& state) {
  const StepCase c = {state.range(0) == 0 ? Kind::kLlama : Kind::kHybrid, state.range(1),
                      state.range(2)};
  StepModel& model = StepModel::Get();
  Measure(state, c, model.weights().BytesOf(c) + c.KvBytes() + c.StateBytes(),
          [&] { model.RunStep(c); });
}
BENCHMARK(BM_CudaDecodeStep)
    ->ArgNames({"hybrid", "rows", "context"})
    ->ArgsProduct({{0, 1}, {1, 5, 8, 16}, {2048}})
    ->Args({0, 1, 128})
    ->Args({1, 1, 128})
    ->UseManualTime()
    ->Iterations(20)
    ->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace krait::kernels
