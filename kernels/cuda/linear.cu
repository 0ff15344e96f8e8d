// y = x W^T.
//
// bf16: x is rounded to bf16 once, then one kernel for any number of rows. The weights are operand
// A (16 outputs), rows of x operand B (8 at a time), so 1 to 8 rows cost the same, and each output
// of each row is the same chain of tensor-core steps whatever the number of rows. A block has a few
// tiles of 16 outputs, a warp one segment of k of all of them. Segments meet in shared memory and
// are added in order (SegmentCut).
//   v1  1 output tile a block, 2 k tiles ahead: 0.81 of the read bandwidth (H100, 8 rows, as a
//       graph; a prototype)
//   v2  3 output tiles share the fragments of x, 1 k tile ahead; started before the kernel before
//       has ended: 0.80 (H200, 1 to 16 rows, as a graph; current)
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
#include "kernels/cuda/shared_memory.cuh"
#include "kernels/cuda/tensor_core.cuh"

namespace krait::kernels {
namespace {

constexpr int kRowsPerTile = 8;  // n of mma.m16n8k16
constexpr int kNumWarps = 16;

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

__device__ uint4 LoadOnce(const uint4* from) {
  uint4 v;
  asm volatile("ld.global.L1::no_allocate.v4.u32 {%0,%1,%2,%3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "l"(from));
  return v;
}

// A lane's part of a tile of weights: eight k of outputs g and g + 8.
struct WeightTile {
  static constexpr int kVectors = 64;  // uint4 a tile
  uint4 low, high;

  __device__ void Load(const uint4* tile) {  // of this lane
    low = LoadOnce(tile);
    high = LoadOnce(tile + 32);
  }
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

// k tiles [begin, end) of kOutputTiles tiles of outputs, for kRowTiles times eight rows. The output
// tiles share what is read of x; one k tile is in flight while another is used. The first is before
// the kernel before has ended.
template <int kRowTiles, int kOutputTiles>
__device__ void RunSegment(const uint4* const (&weights)[kOutputTiles], int begin, int end,
                           const Bf16Rows& x, int lane, float4 (&c)[kOutputTiles][kRowTiles]) {
  WeightTile ahead[kOutputTiles];
#pragma unroll
  for (int o = 0; o < kOutputTiles; ++o) {
    if (begin < end) ahead[o].Load(weights[o] + int64_t{begin} * WeightTile::kVectors);
  }
  AwaitPrevious();
  for (int tile = begin; tile < end; ++tile) {
    uint4 rows[kRowTiles];
#pragma unroll
    for (int r = 0; r < kRowTiles; ++r) {
      rows[r] = x.Load(r * kRowsPerTile + lane / 4, tile * SegmentCut::kTile + lane % 4 * 8);
    }
    WeightTile now[kOutputTiles];
#pragma unroll
    for (int o = 0; o < kOutputTiles; ++o) now[o] = ahead[o];
    if (tile + 1 < end) {
#pragma unroll
      for (int o = 0; o < kOutputTiles; ++o) {
        ahead[o].Load(weights[o] + int64_t{tile + 1} * WeightTile::kVectors);
      }
    }
#pragma unroll
    for (int o = 0; o < kOutputTiles; ++o) {
#pragma unroll
      for (int r = 0; r < kRowTiles; ++r) now[o].MultiplyInto(c[o][r], rows[r]);
    }
  }
}

__device__ float4 Add(const float4& a, const float4& b) {
  return {a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w};
}

// A fragment's four sums: output `column` of rows `row` and row + 1, then output column + 8.
template <typename Store>
__device__ void StoreFragment(const float4& sums, int row, int64_t column, int num_rows, int64_t n,
                              const Store& store) {
  if (row < num_rows && column < n) store(row, column, sums.x);
  if (row + 1 < num_rows && column < n) store(row + 1, column, sums.y);
  if (row < num_rows && column + 8 < n) store(row, column + 8, sums.z);
  if (row + 1 < num_rows && column + 8 < n) store(row + 1, column + 8, sums.w);
}

// Adds the segments of a fragment, `stride` apart, and stores the sum.
__device__ void FinishFragment(const float4* segments, int stride, const SegmentCut& cut, int row,
                               int64_t column, int num_rows, int64_t n, const Output& output) {
  float4 total = {};
  for (int block = 0; block < cut.num_blocks; ++block) {
    const float4* first = segments + block * cut.segments_per_block * stride;
    float4 sum = first[0];
    for (int s = 1; s < cut.segments_per_block; ++s) sum = Add(sum, first[s * stride]);
    if (output.block_stride != 0) {
      StoreFragment(sum, row, column, num_rows, n, [&](int64_t r, int64_t at, float value) {
        output.StorePartial(block, r, at, value);
      });
    }
    total = block == 0 ? sum : Add(total, sum);
  }
  if (output.block_stride != 0) return;
  StoreFragment(total, row, column, num_rows, n,
                [&](int64_t r, int64_t at, float value) { output.Store(r, at, value); });
}

template <int kRowTiles, int kOutputTiles>
__global__ void __launch_bounds__(kNumWarps* kWarpSize)
    Skinny(const uint4* weights, SegmentCut cut, Bf16Rows x, int64_t n, Output output) {
  extern __shared__ float4 sums[];  // [segments][output tiles][row tiles][lanes]
  constexpr int kFragments = kOutputTiles * kRowTiles * kWarpSize;
  LetNextStart();
  const int lane = threadIdx.x % kWarpSize;
  const int num_tiles = static_cast<int>((n + 15) / 16), first_tile = blockIdx.x * kOutputTiles;
  const uint4* own[kOutputTiles];
#pragma unroll
  for (int o = 0; o < kOutputTiles; ++o) {  // beyond the last tile: the last again, not stored
    own[o] = weights + min(first_tile + o, num_tiles - 1) * cut.num_tiles() * WeightTile::kVectors +
             lane;
  }
  for (int segment = threadIdx.x / kWarpSize; segment < cut.num_segments(); segment += kNumWarps) {
    const int block = segment / cut.segments_per_block, part = segment % cut.segments_per_block;
    const int per_block = static_cast<int>(cut.tiles_per_block), first = block * per_block;
    float4 c[kOutputTiles][kRowTiles] = {};
    RunSegment<kRowTiles, kOutputTiles>(own, first + per_block * part / cut.segments_per_block,
                                        first + per_block * (part + 1) / cut.segments_per_block, x,
                                        lane, c);
#pragma unroll
    for (int o = 0; o < kOutputTiles; ++o) {
#pragma unroll
      for (int r = 0; r < kRowTiles; ++r) {
        sums[segment * kFragments + (o * kRowTiles + r) * kWarpSize + lane] = c[o][r];
      }
    }
  }
  AwaitPrevious();  // also where a warp has no segment
  __syncthreads();
  for (int i = threadIdx.x; i < kFragments; i += kNumWarps * kWarpSize) {
    const int o = i / (kRowTiles * kWarpSize), r = i / kWarpSize % kRowTiles;
    if (first_tile + o >= num_tiles) continue;
    const int row = r * kRowsPerTile + i % 4 * 2;
    const int64_t column = int64_t{first_tile + o} * 16 + i % kWarpSize / 4;
    FinishFragment(sums + i, kFragments, cut, row, column, x.num_rows, n, output);
  }
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

constexpr int kMaxSharedBytes = 227 * 1024;

int SharedBytes(const SegmentCut& cut, int num_fragments) {
  return static_cast<int>(cut.num_segments() * num_fragments * kWarpSize * sizeof(float4));
}

template <int kRowTiles, int kOutputTiles>
void LaunchSkinny(const CudaContext& context, const CudaWeight& weight, const Bf16Rows& x,
                  const Output& output) {
  const int shared_bytes = SharedBytes(weight.cut(), kOutputTiles * kRowTiles);
  const int64_t blocks = (weight.num_row_tiles() + kOutputTiles - 1) / kOutputTiles;
  const auto kernel = Skinny<kRowTiles, kOutputTiles>;
  AllowSharedMemory(kernel, shared_bytes);
  Launch(context, "Linear", kernel,
         {static_cast<unsigned>(blocks), kNumWarps * kWarpSize, shared_bytes}, weight.data<uint4>(),
         weight.cut(), x, weight.n(), output);
}

// Output tiles that share x cost blocks: a small weight wants every multiprocessor more.
constexpr int64_t kFewOutputTiles = 256;

template <int kRowTiles, int kOutputTiles>
void LaunchFor(const CudaContext& context, const CudaWeight& weight, const Bf16Rows& x,
               const Output& output) {
  const bool fits = SharedBytes(weight.cut(), kOutputTiles * kRowTiles) <= kMaxSharedBytes;
  if (weight.num_row_tiles() < kFewOutputTiles || !fits) {
    LaunchSkinny<kRowTiles, 1>(context, weight, x, output);
  } else {
    LaunchSkinny<kRowTiles, kOutputTiles>(context, weight, x, output);
  }
}

Output Below(const Output& output, int64_t row) {
  Output below = output;
  below.y.data += row * output.y.stride;
  if (output.residual.data != nullptr) below.residual.data += row * output.residual.stride;
  return below;
}

constexpr int kMaxRowTiles = 8;  // that share one reading of the weights

// One pass over the weights.
void RunPass(const CudaContext& context, const CudaWeight& weight, const Bf16Rows& x,
             const Output& output) {
  if (x.num_rows <= kRowsPerTile) {
    LaunchFor<1, 3>(context, weight, x, output);
  } else if (x.num_rows <= 2 * kRowsPerTile) {
    LaunchFor<2, 3>(context, weight, x, output);
  } else if (x.num_rows <= 4 * kRowsPerTile) {
    LaunchFor<4, 3>(context, weight, x, output);
  } else {
    LaunchFor<8, 1>(context, weight, x, output);
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
  CHECK_LE(SharedBytes(cut, kMaxRowTiles), kMaxSharedBytes) << "k_blocks=" << cut.num_blocks;
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
