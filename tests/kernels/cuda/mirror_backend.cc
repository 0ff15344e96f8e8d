#include "tests/kernels/cuda/mirror_backend.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "common/logging.h"
#include "kernels/cuda/create_cuda_backend.h"

namespace krait::kernels {
namespace {

// From the first element of a view to its last.
int64_t SpanBytes(const TensorView& view) {
  if (view.shape.num_elements() == 0) return 0;
  const int64_t elements =
      (view.dim(0) - 1) * view.row_stride + TensorView::DenseRowStride(view.shape);
  return elements * ByteSize(view.dtype);
}

// The device's copies of one op's operands; goes after the op and then writes back.
class Mirror {
 public:
  explicit Mirror(Backend& cuda) : cuda_(cuda) {}
  ~Mirror() {
    for (const Copy& copy : copies_) {
      if (copy.written) cuda_.CopyToHost(Bytes(copy.device.ptr<void>(), copy.num_bytes), copy.host);
    }
  }

  void Read(TensorView& view) { view.data = Take(view.data, SpanBytes(view), false); }
  // Host memory between the rows of a strided view is written back as it was.
  void Write(TensorView& view) { view.data = Take(view.data, SpanBytes(view), true); }
  template <typename T>
  void Read(const T*& array, int64_t count) {
    array = static_cast<const T*>(
        Take(const_cast<T*>(array), count * static_cast<int64_t>(sizeof(T)), false));
  }
  void Read(RecurrentBatch& batch) {
    const int64_t tokens = batch.query_start[batch.num_sequences], s = batch.num_sequences;
    Read(batch.query_start, s + 1);
    for (auto* each :
         {&batch.slots, &batch.first_position, &batch.final_position, &batch.state_position}) {
      Read(*each, s);
    }
    Read(batch.parents, tokens);
  }
  void Write(LogitsShard& shard) {
    shard.logits = static_cast<float*>(
        Take(shard.logits, shard.n * static_cast<int64_t>(sizeof(float)), true));
  }

 private:
  struct Copy {
    void* host;
    int64_t num_bytes;
    bool written;
    Tensor device;
  };

  static TensorView Bytes(void* memory, int64_t num_bytes) {
    return TensorView(memory, DType::kU8, {num_bytes});
  }

  // One copy of memory that several operands share, if they begin alike; else of what holds it.
  void* Take(void* host, int64_t num_bytes, bool written) {
    if (host == nullptr || num_bytes == 0) return host;
    for (Copy& copy : copies_) {
      const auto offset = static_cast<char*>(host) - static_cast<char*>(copy.host);
      if (offset < 0 || offset + num_bytes > copy.num_bytes) continue;
      copy.written |= written;
      return copy.device.ptr<char>() + offset;
    }
    auto device = cuda_.Allocate(DType::kU8, {num_bytes});
    CHECK(device.ok()) << device.status();
    cuda_.CopyFromHost(host, Bytes(device->ptr<void>(), num_bytes));
    copies_.push_back({host, num_bytes, written, *std::move(device)});
    return copies_.back().device.ptr<void>();
  }

  Backend& cuda_;
  std::vector<Copy> copies_;
};

class MirrorBackend final : public Backend {
 public:
  explicit MirrorBackend(std::unique_ptr<Backend> cuda) : cuda_(std::move(cuda)) {}

  Device device() const override { return cuda_->device(); }
  DType linear_input(DType weight_dtype) const override {
    return cuda_->linear_input(weight_dtype);
  }
  absl::StatusOr<Tensor> Allocate(DType dtype, Shape shape) override {
    return cuda_->Allocate(dtype, shape);
  }
  absl::StatusOr<std::unique_ptr<PeerBoard>> MakePeerBoard(int num_ranks) override {
    return cuda_->MakePeerBoard(num_ranks);
  }
  absl::StatusOr<std::unique_ptr<LinearWeight>> PrepareLinear(const LinearSource& source) override {
    return cuda_->PrepareLinear(source);
  }

  void Embedding(const EmbeddingParams& params) override {
    EmbeddingParams p = params;
    Mirror mirror(*cuda_);
    mirror.Read(p.ids, p.out.dim(0));
    if (p.sources != nullptr) {
      const int32_t last = *std::max_element(p.sources, p.sources + p.out.dim(0));
      mirror.Read(p.drawn, last + 1);
    }
    mirror.Read(p.sources, p.out.dim(0));
    mirror.Read(p.table);
    mirror.Write(p.out);
    cuda_->Embedding(p);
  }
  void Linear(const LinearParams& params) override {
    LinearParams p = params;
    Mirror mirror(*cuda_);
    TensorView residual;
    mirror.Write(p.y);
    mirror.Read(p.x);
    if (p.residual != nullptr) {
      residual = *p.residual;
      mirror.Read(residual);
      p.residual = &residual;
    }
    cuda_->Linear(p);
  }
  void AddLinearBias(const LinearBiasParams& params) override {
    LinearBiasParams p = params;
    Mirror mirror(*cuda_);
    mirror.Write(p.x);
    mirror.Read(p.bias);
    cuda_->AddLinearBias(p);
  }
  void SumBlocks(const SumBlocksParams& params) override {
    SumBlocksParams p = params;
    Mirror mirror(*cuda_);
    TensorView residual;
    mirror.Write(p.out);
    std::vector<const float*> blocks(p.blocks.begin(), p.blocks.end());
    for (const float*& block : blocks) mirror.Read(block, p.out.dim(0) * p.out.dim(1));
    p.blocks = blocks;
    if (p.residual != nullptr) {
      residual = *p.residual;
      mirror.Read(residual);
      p.residual = &residual;
    }
    cuda_->SumBlocks(p);
  }
  // Its ranks would wait for each other's copies; the device's own test is cuda_peer_test.cc.
  void SumPeers(const SumPeersParams&) override { LOG(FATAL) << "not mirrored"; }
  void RmsNorm(const RmsNormParams& params) override {
    RmsNormParams p = params;
    Mirror mirror(*cuda_);
    mirror.Write(p.y);
    mirror.Read(p.x);
    mirror.Read(p.weight);
    cuda_->RmsNorm(p);
  }
  void Rope(const RopeParams& params) override {
    RopeParams p = params;
    Mirror mirror(*cuda_);
    mirror.Read(p.positions, p.x.dim(0));
    mirror.Write(p.x);
    mirror.Read(p.cos);
    mirror.Read(p.sin);
    cuda_->Rope(p);
  }
  void SiluMul(const SiluMulParams& params) override {
    SiluMulParams p = params;
    Mirror mirror(*cuda_);
    mirror.Read(p.gate_up);
    mirror.Write(p.y);
    cuda_->SiluMul(p);
  }
  void KvAppend(const KvAppendParams& params) override {
    KvAppendParams p = params;
    Mirror mirror(*cuda_);
    mirror.Read(p.slots, p.k.dim(0));
    mirror.Read(p.k);
    mirror.Read(p.v);
    mirror.Write(p.k_cache);
    mirror.Write(p.v_cache);
    cuda_->KvAppend(p);
  }
  void RotateAppend(const RotateAppendParams& params) override {
    RotateAppendParams p = params;
    Mirror mirror(*cuda_);
    mirror.Read(p.positions, p.q.dim(0));
    mirror.Read(p.slots, p.q.dim(0));
    for (TensorView* each : {&p.q, &p.k, &p.v, &p.k_cache, &p.v_cache}) mirror.Write(*each);
    for (TensorView* each : {&p.cos, &p.sin}) mirror.Read(*each);
    cuda_->RotateAppend(p);
  }
  void PagedAttention(const PagedAttentionParams& params) override {
    PagedAttentionParams p = params;
    Mirror mirror(*cuda_);
    mirror.Read(p.query_start, p.num_sequences + 1);
    mirror.Read(p.positions, p.q.dim(0));
    mirror.Read(p.page_table, p.num_sequences * p.page_table_stride);
    mirror.Read(p.q);
    mirror.Read(p.k_cache);
    mirror.Read(p.v_cache);
    mirror.Write(p.out);
    cuda_->PagedAttention(p);
  }
  void CausalConv1d(const CausalConv1dParams& params) override {
    CausalConv1dParams p = params;
    p.traffic = nullptr;
    Mirror mirror(*cuda_);
    mirror.Read(p.batch);
    for (TensorView* each : {&p.x, &p.weight, &p.bias}) mirror.Read(*each);
    for (TensorView* each : {&p.ring, &p.out}) mirror.Write(*each);
    cuda_->CausalConv1d(p);
  }
  void SelectiveScan(const SelectiveScanParams& params) override {
    SelectiveScanParams p = params;
    p.traffic = nullptr;
    Mirror mirror(*cuda_);
    mirror.Read(p.batch);
    for (TensorView* each :
         {&p.x, &p.b, &p.c, &p.dt, &p.z, &p.conv_weight, &p.conv_bias, &p.dt_bias, &p.a, &p.d}) {
      mirror.Read(*each);
    }
    for (TensorView* each : {&p.state, &p.ring, &p.conv_ring, &p.y}) mirror.Write(*each);
    cuda_->SelectiveScan(p);
  }
  void SelectiveStateUpdate(const SelectiveStateUpdateParams& params) override {
    SelectiveStateUpdateParams p = params;
    p.traffic = nullptr;
    Mirror mirror(*cuda_);
    mirror.Read(p.batch);
    for (TensorView* each : {&p.xbc, &p.dt, &p.dt_bias, &p.a, &p.d}) mirror.Read(*each);
    for (TensorView* each : {&p.state, &p.ring, &p.y}) mirror.Write(*each);
    cuda_->SelectiveStateUpdate(p);
  }
  void GatedRmsNorm(const GatedRmsNormParams& params) override {
    GatedRmsNormParams p = params;
    Mirror mirror(*cuda_);
    mirror.Write(p.out);
    for (TensorView* each : {&p.y, &p.z, &p.weight}) mirror.Read(*each);
    cuda_->GatedRmsNorm(p);
  }

  void FindRowMax(absl::Span<const LogitsShard> rows, absl::Span<RowMax> out) override {
    std::vector<LogitsShard> copies(rows.begin(), rows.end());
    Mirror mirror(*cuda_);
    for (LogitsShard& shard : copies) mirror.Write(shard);
    cuda_->FindRowMax(copies, out);
  }
  void BiasLogits(absl::Span<const BiasRow> rows) override {
    Mirror mirror(*cuda_);
    cuda_->BiasLogits(Mirrored(rows, mirror));
  }
  void Penalize(absl::Span<const PenaltyRow> rows) override {
    Mirror mirror(*cuda_);
    cuda_->Penalize(Mirrored(rows, mirror));
  }
  void ExpMass(absl::Span<const MassRow> rows, absl::Span<uint64_t> out) override {
    Mirror mirror(*cuda_);
    cuda_->ExpMass(Mirrored(rows, mirror), out);
  }
  void TopCandidates(absl::Span<const TopRow> rows,
                     absl::Span<std::vector<Candidate>> out) override {
    Mirror mirror(*cuda_);
    cuda_->TopCandidates(Mirrored(rows, mirror), out);
  }
  void GumbelArgmax(absl::Span<const GumbelRow> rows, absl::Span<GumbelBest> out) override {
    Mirror mirror(*cuda_);
    cuda_->GumbelArgmax(Mirrored(rows, mirror), out);
  }
  void DrawTokens(const DrawTokensParams& params) override {
    DrawTokensParams p = params;
    Mirror mirror(*cuda_);
    const int64_t num_rows = p.logits.dim(0);
    TensorView tokens(p.tokens, DType::kI32, {num_rows});
    mirror.Write(tokens);
    p.tokens = tokens.ptr<TokenId>();
    mirror.Read(p.positions, *std::max_element(p.rows, p.rows + num_rows) + 1);
    mirror.Read(p.rows, num_rows);
    mirror.Read(p.choices, num_rows);
    mirror.Read(p.ids, p.logits.dim(1));
    mirror.Read(p.logits);
    cuda_->DrawTokens(p);
  }

  std::unique_ptr<RecordedOps> Record(absl::FunctionRef<void()>) override { return nullptr; }
  void CopyFromHost(const void* host, const TensorView& to) override {
    cuda_->CopyFromHost(host, to);
  }
  void CopyToHost(const TensorView& from, void* host) override { cuda_->CopyToHost(from, host); }
  std::unique_ptr<LateRead> MakeLateRead(int64_t capacity_bytes) override {
    return cuda_->MakeLateRead(capacity_bytes);
  }
  void Synchronize() override { cuda_->Synchronize(); }
  bool Idle() override { return cuda_->Idle(); }
  void* stream() override { return cuda_->stream(); }

 private:
  template <typename Row>
  std::vector<Row> Mirrored(absl::Span<const Row> rows, Mirror& mirror) {
    std::vector<Row> copies(rows.begin(), rows.end());
    for (Row& row : copies) mirror.Write(row.shard);
    return copies;
  }

  const std::unique_ptr<Backend> cuda_;
};

}  // namespace

std::unique_ptr<Backend> CreateMirrorBackend() {
  absl::StatusOr<std::unique_ptr<Backend>> cuda = CreateCudaBackend(0);
  CHECK(cuda.ok()) << cuda.status();
  return std::make_unique<MirrorBackend>(*std::move(cuda));
}

}  // namespace krait::kernels
