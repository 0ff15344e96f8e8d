// Decoding steps of an 8 B model, op by op as the worker calls them, as one CUDA graph; and its
// products alone. Against the read bandwidth measured between the runs.
//
// Layers use the weights of a few in turn: far more than the L2 cache holds, and sooner made.

#include <benchmark/benchmark.h>

#include <algorithm>
#include <map>
#include <random>

#include "common/logging.h"
#include "kernels/bench/cuda_stopwatch.h"
#include "kernels/core/bf16.h"
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/cuda_check.h"
#include "kernels/cuda/cuda_weight.h"
#include "kernels/cuda/read_bandwidth.h"

namespace krait::kernels {
namespace {

constexpr int64_t kHidden = 4096, kInner = 14336, kVocab = 128256;
constexpr int64_t kHeads = 32, kKvHeads = 8, kHeadDim = 128, kStateDim = 128;
constexpr int64_t kXbSize = 1024, kXbcSize = kHidden + 2 * kXbSize, kConvTaps = 4;
constexpr int kLayers = 32, kWeightSets = 4;
constexpr int64_t kMaxRows = 64, kPageSize = 16, kMaxContext = 4096;
constexpr int64_t kLimitBytes = int64_t{4} << 30;
constexpr int kFoldInterval = 32, kRingLength = kFoldInterval - 1 + 16;

enum class Kind { kLlama, kHybrid };

struct Case {
  Kind kind;
  int64_t rows;     // new tokens of one sequence
  int64_t context;  // keys that the last of them sees

  bool IsMamba(int layer) const { return kind == Kind::kHybrid && layer % 2 == 0; }
};

// Everything that steps need, made once.
class StepModel {
 public:
  static StepModel& Get() {
    static StepModel* const model = new StepModel;
    return *model;
  }

  CudaBackend& backend() { return *backend_; }

  // Of the ops that follow.
  void Prepare(const Case& c) {
    std::vector<int32_t> positions(c.rows), query_start = {0, static_cast<int32_t>(c.rows)};
    std::vector<int64_t> slots(c.rows);
    const int64_t first = c.context - c.rows;
    for (int64_t i = 0; i < c.rows; ++i) {
      positions[i] = static_cast<int32_t>(first + i);
      slots[i] = first + i;  // pages lie in order
    }
    Upload(positions_, positions);
    Upload(query_start_, query_start);
    Upload(slots_, slots);
    // Half a ring on average.
    const int32_t start = static_cast<int32_t>(first / kFoldInterval) * kFoldInterval + 15;
    Upload(first_position_, std::vector<int32_t>{start});
    Upload(final_position_, std::vector<int32_t>{start + 1});
    Upload(state_position_, std::vector<int32_t>{start});
    backend_->Synchronize();
  }

  void RunStep(const Case& c) {
    backend_->Embedding({.table = View(table_, DType::kBF16, {1024, kHidden}),
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
    Multiply(head_, Normed(c), Logits(c), nullptr);
  }

  void RunProducts(const Case& c) {
    for (int layer = 0; layer < kLayers; ++layer) {
      const TensorView hidden = Hidden(c);
      if (c.IsMamba(layer)) {
        Multiply(in_[layer % kWeightSets], Normed(c), Projected(c, InWidth()), nullptr);
      } else {
        Multiply(qkv_[layer % kWeightSets], Normed(c), Projected(c, QkvWidth()), nullptr);
      }
      Multiply(out_[layer % kWeightSets], Mixed(c), hidden, &hidden);
      Multiply(gate_up_[layer % kWeightSets], Normed(c), GateUp(c), nullptr);
      Multiply(down_[layer % kWeightSets], Activated(c), hidden, &hidden);
    }
    Multiply(head_, Normed(c), Logits(c), nullptr);
  }

  // What nothing that reads can be faster than.
  double ReadLimit(Stopwatch& watch) {
    const double seconds = watch.Seconds(
        [&] { ReadAll(backend_->context(), memory_.ptr<void>(), memory_.num_bytes()); });
    return static_cast<double>(memory_.num_bytes()) / seconds;
  }

  int64_t WeightBytes(const Case& c) const {
    int64_t bytes = 0;
    ForEachWeight(c, [&](const LinearWeight& weight) { bytes += weight.num_bytes(); });
    return bytes;
  }
  int64_t KvBytes(const Case& c) const {
    const int64_t layers = c.kind == Kind::kHybrid ? kLayers / 2 : kLayers;
    return layers * 2 * c.context * kKvHeads * kHeadDim * ByteSize(kCacheType);
  }
  int64_t StateBytes(const Case& c) const {
    const int64_t entry = 2 * kXbSize + kHeads;
    return c.kind == Kind::kLlama
               ? 0
               : kLayers / 2 * 4 * (kHeads * kStateDim * kStateDim + entry * (15 + c.rows));
  }

 private:
  using Weight = std::unique_ptr<LinearWeight>;
  static constexpr DType kCacheType = DType::kBF16;

  StepModel() {
    auto backend = CudaBackend::Create(0);
    CHECK(backend.ok()) << backend.status();
    backend_ = *std::move(backend);
    MakeNoise();
    for (int i = 0; i < kWeightSets; ++i) {
      in_.push_back(Make(InWidth(), kHidden, 1));
      qkv_.push_back(Make(QkvWidth(), kHidden, 1));
      out_.push_back(Make(kHidden, kHidden, 8));
      gate_up_.push_back(Make(2 * kInner, kHidden, 1));
      down_.push_back(Make(kHidden, kInner, 8));
    }
    head_ = Make(kVocab, kHidden, 1);
    MakeActivations();
    MakeCaches();
  }

  static int64_t QkvWidth() { return (kHeads + 2 * kKvHeads) * kHeadDim; }
  static int64_t InWidth() { return kHidden + kXbcSize + kHeads; }

  template <typename Visit>
  void ForEachWeight(const Case& c, const Visit& visit) const {
    for (int layer = 0; layer < kLayers; ++layer) {
      const int set = layer % kWeightSets;
      visit(c.IsMamba(layer) ? *in_[set] : *qkv_[set]);
      for (const auto* each : {&out_, &gate_up_, &down_}) visit(*(*each)[set]);
    }
    visit(*head_);
  }

  void MakeNoise() {
    std::mt19937 generator(1);
    std::normal_distribution<float> normal(0, 0.02f);
    noise_.resize(1 << 20);
    for (float& value : noise_) value = normal(generator);
  }

  Weight Make(int64_t n, int64_t k, int64_t k_blocks) {
    LinearSource source{n, k, k_blocks, DType::kBF16, nullptr};
    source.read_rows = [&](int64_t begin, int64_t end, float* out) {
      for (int64_t row = begin; row < end; ++row) {
        std::copy_n(noise_.data() + row * 977 % (int64_t{1} << 19), k, out + (row - begin) * k);
      }
      return absl::OkStatus();
    };
    auto weight = backend_->PrepareLinear(source);
    CHECK(weight.ok()) << weight.status();
    return *std::move(weight);
  }

  Tensor Allocate(DType dtype, int64_t elements) {
    auto tensor = backend_->Allocate(dtype, {elements});
    CHECK(tensor.ok()) << tensor.status();
    return *std::move(tensor);
  }
  Tensor Filled(int64_t elements, float scale = 1) {
    Tensor tensor = Allocate(DType::kF32, elements);
    std::vector<float> values(elements);
    for (int64_t i = 0; i < elements; ++i) values[i] = scale * noise_[i % noise_.size()];
    backend_->CopyFromHost(values.data(), tensor.view());
    return tensor;
  }
  template <typename T>
  void Upload(Tensor& tensor, const std::vector<T>& values) {
    const auto bytes = static_cast<int64_t>(values.size() * sizeof(T));
    if (tensor.empty()) tensor = Allocate(DType::kU8, std::max<int64_t>(1024, bytes));
    backend_->CopyFromHost(values.data(), TensorView(tensor.ptr<void>(), DType::kU8, {bytes}));
  }

  void MakeActivations() {
    memory_ = Allocate(DType::kU8, kLimitBytes);
    table_ = Allocate(DType::kBF16, 1024 * kHidden);
    hidden_ = Filled(kMaxRows * kHidden);
    normed_ = Allocate(DType::kBF16, kMaxRows * kHidden);
    projected_ = Filled(kMaxRows * InWidth());
    convolved_ = Filled(kMaxRows * kXbcSize);
    mixed_ = Allocate(DType::kBF16, kMaxRows * kHidden);
    gate_up_rows_ = Filled(kMaxRows * 2 * kInner);
    activated_ = Allocate(DType::kBF16, kMaxRows * kInner);
    logits_ = Allocate(DType::kF32, kMaxRows * kVocab);
    norm_weight_ = Filled(kHidden, 50);
    cos_ = Filled(kMaxContext * kHeadDim / 2);
    sin_ = Filled(kMaxContext * kHeadDim / 2);
    conv_weight_ = Filled(kConvTaps * kXbcSize, 50);
    conv_bias_ = Filled(kXbcSize);
    std::vector<float> a(kHeads, -1.0f);
    Upload(a_, a);
    Upload(ids_, std::vector<int32_t>(kMaxRows, 7));
    Upload(state_slots_, std::vector<int32_t>{0});
  }

  void MakeCaches() {
    const int64_t pages = kMaxContext / kPageSize;
    std::vector<int32_t> table(pages);
    for (int64_t i = 0; i < pages; ++i) table[i] = static_cast<int32_t>(i);
    Upload(page_table_, table);
    const int64_t plane = kMaxContext * kKvHeads * kHeadDim;
    for (int layer = 0; layer < kLayers; ++layer) {
      keys_.push_back(Allocate(kCacheType, plane));
      values_.push_back(Allocate(kCacheType, plane));
      states_.push_back(Filled(kHeads * kStateDim * kStateDim));
      rings_.push_back(Filled(kRingLength * (2 * kXbSize + kHeads)));
      conv_rings_.push_back(Filled((kConvTaps + 16) * kXbcSize));
    }
  }

  static TensorView View(const Tensor& tensor, DType dtype, Shape shape) {
    return TensorView(tensor.ptr<void>(), dtype, shape);
  }
  TensorView F32(const Tensor& tensor, Shape shape) const {
    return View(tensor, DType::kF32, shape);
  }
  TensorView Hidden(const Case& c) const { return F32(hidden_, {c.rows, kHidden}); }
  TensorView Normed(const Case& c) const { return View(normed_, DType::kBF16, {c.rows, kHidden}); }
  TensorView Mixed(const Case& c) const { return View(mixed_, DType::kBF16, {c.rows, kHidden}); }
  TensorView Projected(const Case& c, int64_t n) const { return F32(projected_, {c.rows, n}); }
  TensorView GateUp(const Case& c) const { return F32(gate_up_rows_, {c.rows, 2 * kInner}); }
  TensorView Activated(const Case& c) const {
    return View(activated_, DType::kBF16, {c.rows, kInner});
  }
  TensorView Logits(const Case& c) const { return F32(logits_, {c.rows, kVocab}); }

  void Multiply(const Weight& weight, const TensorView& x, const TensorView& y,
                const TensorView* residual) {
    backend_->Linear({.x = x, .weight = weight.get(), .y = y, .residual = residual});
  }
  void Norm(const Case& c) {
    backend_->RmsNorm({.x = Hidden(c), .weight = F32(norm_weight_, {kHidden}), .y = Normed(c)});
  }

  void Attention(const Case& c, int layer) {
    const TensorView qkv = Projected(c, QkvWidth()), hidden = Hidden(c);
    Multiply(qkv_[layer % kWeightSets], Normed(c), qkv, nullptr);
    const auto heads = [&](int64_t first, int64_t count) {
      return qkv.Columns(first * kHeadDim, (first + count) * kHeadDim)
          .WithShape({c.rows, count, kHeadDim});
    };
    const TensorView q = heads(0, kHeads), k = heads(kHeads, kKvHeads);
    const Shape table = {kMaxContext, kHeadDim / 2};
    const Shape plane = {kMaxContext / kPageSize, kKvHeads, kPageSize, kHeadDim};
    const TensorView keys = View(keys_[layer], kCacheType, plane);
    const TensorView values = View(values_[layer], kCacheType, plane);
    backend_->RotateAppend({.q = q,
                            .k = k,
                            .v = heads(kHeads + kKvHeads, kKvHeads),
                            .positions = positions_.ptr<int32_t>(),
                            .cos = F32(cos_, table),
                            .sin = F32(sin_, table),
                            .slots = slots_.ptr<int64_t>(),
                            .k_cache = keys,
                            .v_cache = values});
    backend_->PagedAttention({.q = q,
                              .k_cache = keys,
                              .v_cache = values,
                              .num_sequences = 1,
                              .query_start = query_start_.ptr<int32_t>(),
                              .positions = positions_.ptr<int32_t>(),
                              .page_table = page_table_.ptr<int32_t>(),
                              .page_table_stride = kMaxContext / kPageSize,
                              .scale = 0.088f,
                              .out = Mixed(c)});
    Multiply(out_[layer % kWeightSets], Mixed(c), hidden, &hidden);
  }

  void Mamba(const Case& c, int layer) {
    const TensorView projected = Projected(c, InWidth()), hidden = Hidden(c);
    Multiply(in_[layer % kWeightSets], Normed(c), projected, nullptr);
    const RecurrentBatch batch = {.num_sequences = 1,
                                  .query_start = query_start_.ptr<int32_t>(),
                                  .slots = state_slots_.ptr<int32_t>(),
                                  .first_position = first_position_.ptr<int32_t>(),
                                  .final_position = final_position_.ptr<int32_t>(),
                                  .state_position = state_position_.ptr<int32_t>()};
    const TensorView convolved = F32(convolved_, {c.rows, kXbcSize});
    backend_->CausalConv1d({.batch = batch,
                            .x = projected.Columns(kHidden, kHidden + kXbcSize),
                            .weight = F32(conv_weight_, {kConvTaps, kXbcSize}),
                            .bias = F32(conv_bias_, {kXbcSize}),
                            .ring = F32(conv_rings_[layer], {1, kConvTaps + 15, kXbcSize}),
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
         .ring = F32(rings_[layer], {1, kRingLength, 2 * kXbSize + kHeads}),
         .fold_interval = kFoldInterval,
         .y = y});
    backend_->GatedRmsNorm({.y = y,
                            .z = projected.Columns(0, kHidden),
                            .weight = F32(norm_weight_, {kHidden}),
                            .group_size = kStateDim,
                            .out = Mixed(c)});
    Multiply(out_[layer % kWeightSets], Mixed(c), hidden, &hidden);
  }

  void Mlp(const Case& c, int layer) {
    const TensorView hidden = Hidden(c);
    Multiply(gate_up_[layer % kWeightSets], Normed(c), GateUp(c), nullptr);
    backend_->SiluMul({.gate_up = GateUp(c), .y = Activated(c)});
    Multiply(down_[layer % kWeightSets], Activated(c), hidden, &hidden);
  }

  std::unique_ptr<CudaBackend> backend_;
  std::vector<float> noise_;
  std::vector<Weight> in_, qkv_, out_, gate_up_, down_;
  Weight head_;
  Tensor table_, hidden_, normed_, projected_, convolved_, mixed_, gate_up_rows_, activated_,
      logits_, norm_weight_, cos_, sin_, conv_weight_, conv_bias_, a_;
  Tensor ids_, positions_, query_start_, slots_, page_table_, state_slots_, first_position_,
      final_position_, state_position_;
  Tensor memory_;
  std::vector<Tensor> keys_, values_, states_, rings_, conv_rings_;
};

template <typename Ops>
void Measure(benchmark::State& state, const Case& c, int64_t bytes, const Ops& ops) {
  StepModel& model = StepModel::Get();
  model.Prepare(c);
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
  const Case c = {Kind::kHybrid, state.range(0), 128};
  StepModel& model = StepModel::Get();
  Measure(state, c, model.WeightBytes(c), [&] { model.RunProducts(c); });
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
  const Case c = {state.range(0) == 0 ? Kind::kLlama : Kind::kHybrid, state.range(1),
                  state.range(2)};
  StepModel& model = StepModel::Get();
  Measure(state, c, model.WeightBytes(c) + model.KvBytes(c) + model.StateBytes(c),
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
