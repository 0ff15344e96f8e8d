#include "tests/kernels/cuda/mirror_backend.h"

#include <algorithm>
#include <initializer_list>
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
  // A tensor that may be left out; its view goes to `copy`.
  void Read(const TensorView*& tensor, TensorView& copy) {
    if (tensor == nullptr) return;
    copy = *tensor;
    Read(copy);
    tensor = &copy;
  }
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
  absl::StatusOr<std::unique_ptr<LinearWeight>> PrepareLinear(const LinearSource& source) override {
    return cuda_->PrepareLinear(source);
  }

  void Embedding(const EmbeddingParams& params) override {
    using P = EmbeddingParams;
    Run(&Backend::Embedding, params, {&P::out}, {&P::table}, [](P& p, Mirror& mirror) {
      const int64_t num_tokens = p.out.dim(0);
      if (p.sources != nullptr) {
        mirror.Read(p.drawn, *std::max_element(p.sources, p.sources + num_tokens) + 1);
      }
      mirror.Read(p.sources, num_tokens);
      mirror.Read(p.ids, num_tokens);
    });
  }
  void Linear(const LinearParams& params) override {
    using P = LinearParams;
    TensorView residual;
    Run(&Backend::Linear, params, {&P::y}, {&P::x},
        [&](P& p, Mirror& mirror) { mirror.Read(p.residual, residual); });
  }
  void AddLinearBias(const LinearBiasParams& params) override {
    using P = LinearBiasParams;
    Run(&Backend::AddLinearBias, params, {&P::x}, {&P::bias});
  }
  void SumBlocks(const SumBlocksParams& params) override {
    using P = SumBlocksParams;
    TensorView residual;
    std::vector<const float*> blocks(params.blocks.begin(), params.blocks.end());
    Run(&Backend::SumBlocks, params, {&P::out}, {}, [&](P& p, Mirror& mirror) {
      for (const float*& block : blocks) mirror.Read(block, p.out.dim(0) * p.out.dim(1));
      p.blocks = blocks;
      mirror.Read(p.residual, residual);
    });
  }
  void RmsNorm(const RmsNormParams& params) override {
    using P = RmsNormParams;
    Run(&Backend::RmsNorm, params, {&P::y}, {&P::x, &P::weight});
  }
  void Rope(const RopeParams& params) override {
    using P = RopeParams;
    Run(&Backend::Rope, params, {&P::x}, {&P::cos, &P::sin},
        [](P& p, Mirror& mirror) { mirror.Read(p.positions, p.x.dim(0)); });
  }
  void SiluMul(const SiluMulParams& params) override {
    using P = SiluMulParams;
    Run(&Backend::SiluMul, params, {&P::y}, {&P::gate_up});
  }
  void KvAppend(const KvAppendParams& params) override {
    using P = KvAppendParams;
    Run(&Backend::KvAppend, params, {&P::k_cache, &P::v_cache}, {&P::k, &P::v},
        [](P& p, Mirror& mirror) { mirror.Read(p.slots, p.k.dim(0)); });
  }
  void RotateAppend(const RotateAppendParams& params) override {
    using P = RotateAppendParams;
    Run(&Backend::RotateAppend, params, {&P::q, &P::k, &P::v, &P::k_cache, &P::v_cache},
        {&P::cos, &P::sin}, [](P& p, Mirror& mirror) {
          mirror.Read(p.positions, p.q.dim(0));
          mirror.Read(p.slots, p.q.dim(0));
        });
  }
  void PagedAttention(const PagedAttentionParams& params) override {
    using P = PagedAttentionParams;
    Run(&Backend::PagedAttention, params, {&P::out}, {&P::q, &P::k_cache, &P::v_cache},
        [](P& p, Mirror& mirror) {
          mirror.Read(p.query_start, p.num_sequences + 1);
          mirror.Read(p.positions, p.q.dim(0));
          mirror.Read(p.page_table, p.num_sequences * p.page_table_stride);
        });
  }
  void CausalConv1d(const CausalConv1dParams& params) override {
    using P = CausalConv1dParams;
    Run(&Backend::CausalConv1d, params, {&P::ring, &P::out}, {&P::x, &P::weight, &P::bias},
        ReadBatch<P>);
  }
  void SelectiveScan(const SelectiveScanParams& params) override {
    using P = SelectiveScanParams;
    Run(&Backend::SelectiveScan, params, {&P::state, &P::ring, &P::conv_ring, &P::y},
        {&P::x, &P::b, &P::c, &P::dt, &P::z, &P::conv_weight, &P::conv_bias, &P::dt_bias, &P::a,
         &P::d},
        ReadBatch<P>);
  }
  void SelectiveStateUpdate(const SelectiveStateUpdateParams& params) override {
    using P = SelectiveStateUpdateParams;
    Run(&Backend::SelectiveStateUpdate, params, {&P::state, &P::ring, &P::y},
        {&P::xbc, &P::dt, &P::dt_bias, &P::a, &P::d}, ReadBatch<P>);
  }
  void GatedRmsNorm(const GatedRmsNormParams& params) override {
    using P = GatedRmsNormParams;
    Run(&Backend::GatedRmsNorm, params, {&P::out}, {&P::y, &P::z, &P::weight});
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
    using P = DrawTokensParams;
    Run(&Backend::DrawTokens, params, {}, {&P::logits}, [](P& p, Mirror& mirror) {
      const int64_t num_rows = p.logits.dim(0);
      TensorView tokens(p.tokens, DType::kI32, {num_rows});
      mirror.Write(tokens);
      p.tokens = tokens.ptr<TokenId>();
      mirror.Read(p.positions, *std::max_element(p.rows, p.rows + num_rows) + 1);
      mirror.Read(p.rows, num_rows);
      mirror.Read(p.choices, num_rows);
      mirror.Read(p.ids, p.logits.dim(1));
    });
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

 private:
  template <typename Params>
  using Tensors = std::initializer_list<TensorView Params::*>;

  // `op` over copies: of the tensors that it writes, of those that it only reads, and of what
  // `arrays` takes beside them. What is written comes first, for what is read may lie in it.
  template <typename Params, typename Arrays>
  void Run(void (Backend::*op)(const Params&), Params p, Tensors<Params> written,
           Tensors<Params> read, const Arrays& arrays) {
    Mirror mirror(*cuda_);
    for (const auto tensor : written) mirror.Write(p.*tensor);
    for (const auto tensor : read) mirror.Read(p.*tensor);
    arrays(p, mirror);
    (cuda_.get()->*op)(p);
  }
  template <typename Params>
  void Run(void (Backend::*op)(const Params&), const Params& params, Tensors<Params> written,
           Tensors<Params> read) {
    Run(op, params, written, read, [](Params&, Mirror&) {});
  }
  template <typename Params>
  static void ReadBatch(Params& p, Mirror& mirror) {
    p.traffic = nullptr;  // of the host, and not counted
    mirror.Read(p.batch);
  }

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
