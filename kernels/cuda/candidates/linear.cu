// y = x W^T.
//
// bf16: x is rounded to bf16 once, then one kernel for any number of rows. The weights are operand
// A (16 outputs), rows of x operand B (8 at a time), so 1 to 8 rows cost the same, and each output
// of each row is the same chain of tensor-core steps whatever the number of rows. A block has a few
// tiles of 16 outputs, a warp one segment of k of all of them. Segments meet in shared memory and
// are added in order (SegmentCut).
//   v1  1 output tile a block, 2 k tiles ahead: 0.81 of the read bandwidth (H100, 8 rows, as a
//       graph; a prototype)
//   v2  3 output tiles share the fragments of x, 1 k tile ahead in registers; started before the
//       kernel before has ended: 0.80 (H200, 1 to 16 rows, as a graph)
//   v3  1 output tile, 4 k tiles ahead in shared memory, three blocks a multiprocessor (current;
//   not
//       measured)
//
// f32: the plain twin: a thread an output, one chain of fused multiply-adds a block of k, which is
// the CPU's order and gives its bits.

#include <cuda_bf16.h>

#include <algorithm>

#include "common/logging.h"
#include "kernels/cuda/cuda_check.h"
#include "kernels/cuda/cuda_weight.h"
#include "kernels/cuda/elementwise.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/tensor_core.cuh"

namespace krait::kernels {
namespace {

constexpr int kRowsPerTile = 8;  // n of mma.m16n8k16
constexpr int kNumWarps = 16;
constexpr int kMaxSegments = 48;  // whose sums of 64 rows fit into shared memory

// Where results go; see LinearParams.
struct Output {
  Rows y;
  int64_t block_stride = 0;  // with partials: from one block's sums to the next's; else 0
  Rows residual;             // data null: none

  __device__ void Store(int64_t row, int64_t column, float sum) const {
    y[row][column] = residual.data == nullptr ? sum : residual[row][column] + sum;
  }
  __device__ void StorePartial(int block, int64_t row, int64_t column, float sum) const {
    y.data[block * block_stride + row * y.stride + column] = sum;
  }
};

// A lane's part of a tile of weights: eight k of outputs g and g + 8.
struct WeightTile {
  static constexpr int kVectors = 64;  // uint4 a tile
  uint4 low, high;

  __device__ void MultiplyInto(float4& c, const uint4& x) const {
    MultiplyAdd(c, low.x, high.x, low.y, high.y, x.x, x.y);
    MultiplyAdd(c, low.z, high.z, low.w, high.w, x.z, x.w);
  }
};

// x [num_rows, padded k], bf16, stride in elements.
struct Bf16Rows {
  const __nv_bfloat16* data;
  int64_t stride;
  int num_rows;

  __device__ uint4 Load(int row, int k) const {
    if (row >= num_rows) return uint4{0, 0, 0, 0};
    return *reinterpret_cast<const uint4*>(data + row * stride + k);
  }
};

struct KTiles {
  int begin, end;
};

// What a launch computes.
struct SkinnyJob {
  const uint4* weights;
  SegmentCut cut;
  Bf16Rows x;
  int64_t n;
  Output output;
  int num_tiles;  // of outputs

  __device__ KTiles Segment(int segment) const {
    const int per_block = static_cast<int>(cut.tiles_per_block);
    const int first = segment / cut.segments_per_block * per_block;
    const int part = segment % cut.segments_per_block;
    return {first + per_block * part / cut.segments_per_block,
            first + per_block * (part + 1) / cut.segments_per_block};
  }
};

// The weights of a warp's segment of kOutputTiles tiles of outputs on their way through shared
// memory, kSlots k tiles of each. Each lane copies what it will use itself, so nobody waits for
// anybody, and no register holds what is still on its way.
template <int kOutputTiles, int kSlots>
class WeightRing {
 public:
  static constexpr int kVectors = kSlots * kOutputTiles * WeightTile::kVectors;  // of a warp

  // Beyond the last tile of outputs: the last again, whose sums are not stored.
  __device__ WeightRing(const SkinnyJob& job, int first_tile, uint4* slots, int lane)
      : from_(job.weights + lane), slots_(slots + lane) {
#pragma unroll
    for (int o = 0; o < kOutputTiles; ++o) {
      const int tile = min(first_tile + o, job.num_tiles - 1);
      offsets_[o] = tile * job.cut.num_tiles() * WeightTile::kVectors;
    }
  }

  __device__ void Start(const KTiles& k) {
    next_ = k.begin;
    end_ = k.end;
    slot_ = 0;
#pragma unroll
    for (int i = 0; i < kSlots; ++i) Issue(i);
  }
  // The oldest k tile of output tile o; Await before.
  __device__ void Await() const { AwaitCopies<kSlots - 1>(); }
  __device__ WeightTile Front(int o) const {
    const uint4* tile = slots_ + (slot_ * kOutputTiles + o) * WeightTile::kVectors;
    return {tile[0], tile[32]};
  }
  // The oldest has been used.
  __device__ void Pop() {
    Issue(slot_);
    slot_ = slot_ + 1 == kSlots ? 0 : slot_ + 1;
  }

 private:
  __device__ void Issue(int slot) {
    if (next_ < end_) {
#pragma unroll
      for (int o = 0; o < kOutputTiles; ++o) {
        const uint4* from = from_ + offsets_[o] + int64_t{next_} * WeightTile::kVectors;
        uint4* to = slots_ + (slot * kOutputTiles + o) * WeightTile::kVectors;
        CopyAsync(to, from);
        CopyAsync(to + 32, from + 32);
      }
      ++next_;
    }
    CommitCopies();
  }

  const uint4* const from_;
  int64_t offsets_[kOutputTiles];
  uint4* const slots_;
  int next_, end_, slot_;
};

// A lane's parts of rows of x at one k tile. A few rows are read a tile ahead; with more, registers
// are short, and there is more to do meanwhile.
template <int kRowTiles>
class RowTiles {
 public:
  __device__ RowTiles(const Bf16Rows& rows, int lane)
      : rows_(rows), row_(lane / 4), k_(lane % 4 * 8) {}

  __device__ void LoadAhead(int tile) {
    if constexpr (kAhead) {
#pragma unroll
      for (int r = 0; r < kRowTiles; ++r) ahead_[r] = Load(r, tile);
    }
  }
  // What was loaded ahead is now: call before the next LoadAhead.
  __device__ void Take() {
    if constexpr (kAhead) {
#pragma unroll
      for (int r = 0; r < kRowTiles; ++r) now_[r] = ahead_[r];
    }
  }
  __device__ uint4 Get(int r, int tile) const {
    if constexpr (kAhead) {
      return now_[r];
    } else {
      return Load(r, tile);
    }
  }

 private:
  static constexpr bool kAhead = kRowTiles <= 2;

  __device__ uint4 Load(int r, int tile) const {
    return rows_.Load(r * kRowsPerTile + row_, tile * SegmentCut::kTile + k_);
  }

  const Bf16Rows& rows_;
  const int row_, k_;
  uint4 now_[kAhead ? kRowTiles : 1], ahead_[kAhead ? kRowTiles : 1];
};

// k tiles [begin, end), which the ring brings.
template <int kRowTiles, int kOutputTiles, int kSlots>
__device__ void RunSegment(WeightRing<kOutputTiles, kSlots>& ring, const KTiles& k,
                           RowTiles<kRowTiles>& rows, float4 (&c)[kOutputTiles][kRowTiles]) {
  if (k.begin < k.end) rows.LoadAhead(k.begin);
#pragma unroll 1
  for (int tile = k.begin; tile < k.end; ++tile) {
    rows.Take();
    if (tile + 1 < k.end) rows.LoadAhead(tile + 1);
    ring.Await();
    WeightTile weights[kOutputTiles];
#pragma unroll
    for (int o = 0; o < kOutputTiles; ++o) weights[o] = ring.Front(o);
#pragma unroll
    for (int r = 0; r < kRowTiles; ++r) {
      const uint4 x = rows.Get(r, tile);
#pragma unroll
      for (int o = 0; o < kOutputTiles; ++o) weights[o].MultiplyInto(c[o][r], x);
    }
    ring.Pop();
  }
}

// Adds the segments of one sum, `stride` apart, and stores it.
__device__ void FinishSum(const float* segments, int stride, const SkinnyJob& job, int row,
                          int64_t column) {
  const SegmentCut& cut = job.cut;
  float total = 0;
  for (int block = 0; block < cut.num_blocks; ++block) {
    const float* first = segments + block * cut.segments_per_block * stride;
    float sum = first[0];
#pragma unroll 4
    for (int s = 1; s < cut.segments_per_block; ++s) sum += first[s * stride];
    if (job.output.block_stride != 0) job.output.StorePartial(block, row, column, sum);
    total = block == 0 ? sum : total + sum;
  }
  if (job.output.block_stride == 0) job.output.Store(row, column, total);
}

// A thread a sum.
template <int kRowTiles, int kOutputTiles>
__device__ void FinishTiles(const float* sums, int stride, const SkinnyJob& job, int first_tile) {
  constexpr int kFloats = kOutputTiles * kRowTiles * kWarpSize * 4;
  for (int i = threadIdx.x; i < kFloats; i += kNumWarps * kWarpSize) {
    const int lane = i / 4 % kWarpSize, part = i % 4;
    const int tile = first_tile + i / (kRowTiles * kWarpSize * 4);
    const int row = i / (kWarpSize * 4) % kRowTiles * kRowsPerTile + lane % 4 * 2 + part % 2;
    const int64_t column = int64_t{tile} * 16 + lane / 4 + part / 2 * 8;
    if (tile >= job.num_tiles || row >= job.x.num_rows || column >= job.n) continue;
    FinishSum(sums + i, stride, job, row, column);
  }
}

// Where segments meet: float4 from one segment's sums to the next's. With one segment a warp, each
// in its warp's part of the ring, which is empty by then; else behind it.
template <int kRowTiles, int kOutputTiles, int kSlots>
struct SumLayout {
  static constexpr int kFragments = kOutputTiles * kRowTiles * kWarpSize;
  static constexpr int kRing = WeightRing<kOutputTiles, kSlots>::kVectors;

  __host__ __device__ static bool InRing(int num_segments) {
    return num_segments <= kNumWarps && kFragments <= kRing;
  }
  __device__ static int Stride(int num_segments) {
    return InRing(num_segments) ? kRing : kFragments;
  }
  __device__ static int Begin(int num_segments) {
    return InRing(num_segments) ? 0 : kNumWarps * kRing;
  }
  static int SharedBytes(int num_segments) {
    const int behind = InRing(num_segments) ? 0 : num_segments * kFragments;
    return (kNumWarps * kRing + behind) * static_cast<int>(sizeof(float4));
  }
};

// Weights are on their way before the kernel before has ended.
template <int kRowTiles, int kOutputTiles, int kSlots, int kBlocks>
__global__ void __launch_bounds__(kNumWarps* kWarpSize, kBlocks) Skinny(SkinnyJob job) {
  extern __shared__ float4 shared[];
  using Sums = SumLayout<kRowTiles, kOutputTiles, kSlots>;
  const int warp = threadIdx.x / kWarpSize, lane = threadIdx.x % kWarpSize;
  const int first_tile = blockIdx.x * kOutputTiles, num_segments = job.cut.num_segments();
  float4* const sums = shared + Sums::Begin(num_segments);
  const int stride = Sums::Stride(num_segments);
  WeightRing<kOutputTiles, kSlots> ring(
      job, first_tile, reinterpret_cast<uint4*>(shared) + warp * Sums::kRing, lane);
  RowTiles<kRowTiles> rows(job.x, lane);
  LetNextStart();
  for (int segment = warp; segment < num_segments; segment += kNumWarps) {
    const KTiles k = job.Segment(segment);
    ring.Start(k);
    AwaitPrevious();
    float4 c[kOutputTiles][kRowTiles] = {};
    RunSegment(ring, k, rows, c);
    AwaitCopies<0>();
#pragma unroll
    for (int o = 0; o < kOutputTiles; ++o) {
#pragma unroll
      for (int r = 0; r < kRowTiles; ++r) {
        sums[segment * stride + (o * kRowTiles + r) * kWarpSize + lane] = c[o][r];
      }
    }
  }
  AwaitPrevious();  // also where a warp has no segment
  __syncthreads();
  FinishTiles<kRowTiles, kOutputTiles>(reinterpret_cast<const float*>(sums), stride * 4, job,
                                       first_tile);
}

__device__ __nv_bfloat16 Round(float value) { return __float2bfloat16_rn(value); }
__device__ __nv_bfloat16 Round(__nv_bfloat16 value) { return value; }

// x in bf16, each block of k filled up to whole tiles with zeros.
template <typename T>
__global__ void RoundRows(const T* x, int64_t stride, SegmentCut cut, __nv_bfloat16* out) {
  StartInOrder();
  const int64_t at = int64_t{blockIdx.x} * kThreads + threadIdx.x, t = blockIdx.y;
  if (at >= cut.padded_k()) return;
  const int64_t block_width = cut.tiles_per_block * SegmentCut::kTile;
  const int64_t in_block = at % block_width;
  const int64_t k = at / block_width * cut.block_size + in_block;
  out[t * cut.padded_k() + at] = in_block < cut.block_size ? Round(x[t * stride + k]) : Round(0.0f);
}

template <int kRowTiles, int kOutputTiles, int kSlots, int kBlocks>
void LaunchSkinny(const CudaContext& context, const CudaWeight& weight, const Bf16Rows& x,
                  const Output& output) {
  using Sums = SumLayout<kRowTiles, kOutputTiles, kSlots>;
  const int shared_bytes = Sums::SharedBytes(weight.cut().num_segments());
  const auto kernel = Skinny<kRowTiles, kOutputTiles, kSlots, kBlocks>;
  KRAIT_CUDA_CHECK(
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes));
  const auto num_tiles = static_cast<int>(weight.num_row_tiles());
  const int blocks = (num_tiles + kOutputTiles - 1) / kOutputTiles;
  Launch(context, "Linear", kernel,
         {static_cast<unsigned>(blocks), kNumWarps * kWarpSize, shared_bytes},
         SkinnyJob{weight.data<uint4>(), weight.cut(), x, weight.n(), output, num_tiles});
}

Output Below(const Output& output, int64_t row) {
  Output below = output;
  below.y.data += row * output.y.stride;
  if (output.residual.data != nullptr) below.residual.data += row * output.residual.stride;
  return below;
}

constexpr int kMaxRowTiles = 8;  // that share one reading of the weights

// One pass over the weights. As many blocks share a multiprocessor as have room there: while some
// wait for weights or add up segments, others go on, and the next kernel's start.
void RunPass(const CudaContext& context, const CudaWeight& weight, const Bf16Rows& x,
             const Output& output) {
  const bool few_rows = x.num_rows <= kRowsPerTile;
  if (weight.cut().num_segments() > kNumWarps) {
    few_rows ? LaunchSkinny<1, 1, 2, 1>(context, weight, x, output)
             : LaunchSkinny<8, 1, 2, 1>(context, weight, x, output);
  } else if (few_rows) {
    LaunchSkinny<1, 1, 4, 3>(context, weight, x, output);
  } else if (x.num_rows <= 2 * kRowsPerTile) {
    LaunchSkinny<2, 2, 3, 2>(context, weight, x, output);
  } else if (x.num_rows <= 4 * kRowsPerTile) {
    LaunchSkinny<4, 2, 4, 1>(context, weight, x, output);
  } else {
    LaunchSkinny<8, 2, 4, 1>(context, weight, x, output);
  }
}

// Whether a kernel may read x as it is.
bool IsTiled(const TensorView& x, const SegmentCut& cut) {
  constexpr int64_t kVector = 16;  // bytes of a load
  return x.dtype == DType::kBF16 && cut.padded_k() == x.dim(1) &&
         x.row_stride * int64_t{sizeof(__nv_bfloat16)} % kVector == 0 &&
         reinterpret_cast<uintptr_t>(x.data) % kVector == 0;
}

template <typename T>
void LaunchRounding(const CudaContext& context, const TensorView& x, const SegmentCut& cut,
                    __nv_bfloat16* out) {
  Launch(context, "Linear (rounding)", RoundRows<T>, {RowGrid(cut.padded_k(), x.dim(0)), kThreads},
         x.ptr<T>(), x.row_stride, cut, out);
}

Bf16Rows TiledRows(const CudaContext& context, const TensorView& x, const SegmentCut& cut) {
  const auto num_rows = static_cast<int>(x.dim(0));
  if (IsTiled(x, cut)) return {x.ptr<__nv_bfloat16>(), x.row_stride, num_rows};
  auto* rounded = context.workspace->Get<__nv_bfloat16>(num_rows * cut.padded_k());
  if (x.dtype == DType::kBF16) {
    LaunchRounding<__nv_bfloat16>(context, x, cut, rounded);
  } else {
    LaunchRounding<float>(context, x, cut, rounded);
  }
  return {rounded, cut.padded_k(), num_rows};
}

void RunTiles(const CudaContext& context, const CudaWeight& weight, const TensorView& x,
              const Output& output) {
  const SegmentCut& cut = weight.cut();
  CHECK_LE(cut.num_segments(), kMaxSegments) << "k_blocks=" << cut.num_blocks;
  const Bf16Rows rows = TiledRows(context, x, cut);
  constexpr int kPassRows = kMaxRowTiles * kRowsPerTile;
  for (int row = 0; row < rows.num_rows; row += kPassRows) {
    const int count = std::min(rows.num_rows - row, kPassRows);
    RunPass(context, weight, {rows.data + row * rows.stride, rows.stride, count},
            Below(output, row));
  }
}

// [k][n] weights; a thread an output of kRowsPerTile rows.
__global__ void Plain(const float* weights, SegmentCut cut, Rows x, int64_t num_rows, int64_t n,
                      Output output) {
  const int64_t column = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const int64_t first = int64_t{blockIdx.y} * kRowsPerTile;
  StartInOrder();
  if (column >= n) return;
  for (int64_t row = first; row < min(first + kRowsPerTile, num_rows); ++row) {
    float total = 0;
    for (int block = 0; block < cut.num_blocks; ++block) {
      float sum = 0;
      for (int64_t k = block * cut.block_size; k < (block + 1) * cut.block_size; ++k) {
        sum = fmaf(x[row][k], weights[k * n + column], sum);
      }
      if (output.block_stride != 0) {
        output.StorePartial(block, row, column, sum);
      }
      total = block == 0 ? sum : total + sum;
    }
    if (output.block_stride == 0) output.Store(row, column, total);
  }
}

void RunPlain(const CudaContext& context, const CudaWeight& weight, const TensorView& x,
              const Output& output) {
  const int64_t num_rows = x.dim(0), groups = (num_rows + kRowsPerTile - 1) / kRowsPerTile;
  Launch(context, "Linear (f32)", Plain, {RowGrid(weight.n(), groups), kThreads},
         weight.data<float>(), weight.cut(), Rows(x), num_rows, weight.n(), output);
}

void CheckShapes(const LinearParams& params, const CudaWeight& weight) {
  const Shape rows = {params.x.dim(0), weight.n()};
  const Shape blocks = {weight.k_blocks(), params.x.dim(0), weight.n()};
  CHECK_EQ(params.x.dim(1), weight.k());
  CHECK(params.y.shape == (params.partials ? blocks : rows)) << params.y.shape.ToString();
  CHECK(!params.partials || (params.residual == nullptr && params.y.dense()));
  CHECK(!params.residual || params.residual->shape == rows) << params.residual->shape.ToString();
}

}  // namespace

void RunLinear(const CudaContext& context, const LinearParams& params) {
  const auto& weight = static_cast<const CudaWeight&>(*params.weight);
  CheckShapes(params, weight);
  if (params.x.dim(0) == 0) return;
  Output output;
  output.y = Rows(params.y);
  if (params.partials) {
    output.y.stride = weight.n();
    output.block_stride = params.x.dim(0) * weight.n();
  }
  if (params.residual) output.residual = Rows(*params.residual);
  if (weight.dtype() == DType::kF32) {
    CHECK(params.x.dtype == DType::kF32);
    RunPlain(context, weight, params.x, output);
  } else {
    RunTiles(context, weight, params.x, output);
  }
}

}  // namespace krait::kernels
