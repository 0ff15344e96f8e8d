// The formula and its order: ops/selective_state_update.h; the CPU's bits. A block has some
// channels p of one head of one sequence: a slice. It brings the slice of the state to shared
// memory once and takes up to 16 new tokens at a time from there; threads lie along p, and along
// tokens. A second kernel writes the ring once every head has read what is there.
//   v1  the state stays in memory, token after token
//   v2  the above, inputs read where they lie: 0.22 of the read bandwidth (H200, 256 sequences, K =
//   8) v3  inputs come to shared memory too (current; not measured)

#include <algorithm>

#include "common/logging.h"
#include "kernels/cuda/cuda_check.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/recurrent.cuh"
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/tensor_core.cuh"

namespace krait::kernels {
namespace {

constexpr int kSliceThreads = 256;
constexpr int kLanes = 8;      // of a sum B . C
constexpr int kFoldRows = 32;  // n of a state that are folded at a time

struct StateJob {
  RecurrentBatch batch;
  Rows xbc, dt, y;
  const float* dt_bias = nullptr;
  const float* a = nullptr;
  const float* d = nullptr;
  float* state = nullptr;
  int64_t slot_stride = 0;
  Ring ring;
  int interval = 0;
  int num_heads = 0, state_dim = 0, head_dim = 0, num_groups = 0;
  bool aligned = false;  // B, C and x of every token can be read four elements at a time

  explicit StateJob(const SelectiveStateUpdateParams& params)
      : batch(params.batch),
        xbc(params.xbc),
        dt(params.dt),
        y(params.y),
        dt_bias(params.dt_bias.ptr<float>()),
        a(params.a.ptr<float>()),
        d(params.d.ptr<float>()),
        state(params.state.ptr<float>()),
        slot_stride(params.state.row_stride),
        ring(params.ring),
        interval(params.fold_interval),
        num_heads(static_cast<int>(params.state.dim(1))),
        state_dim(static_cast<int>(params.state.dim(2))),
        head_dim(static_cast<int>(params.state.dim(3))),
        num_groups((ring.width - num_heads) / (head_dim + state_dim)),
        aligned(IsVectorAligned(params.xbc) && IsVectorAligned(params.ring) &&
                params.ring.row_stride % 4 == 0) {}

  __host__ __device__ int64_t state_size() const { return int64_t{state_dim} * head_dim; }
  __host__ __device__ int b_offset() const { return num_groups * head_dim; }
  __host__ __device__ int dt_offset() const { return num_groups * (head_dim + state_dim); }
  // The step of a new token: what projected dt becomes.
  __device__ float Step(int64_t row, int head) const {
    return fast_math::Softplus(dt[row][head] + dt_bias[head]);
  }
};

// The inputs since the checkpoint up to some token, and what a block's threads share beside them.
// In dynamic shared memory; all rows of four floats or more.
template <int kSlice>
struct SliceMemory {
  // Of a whole head, no more than lets two blocks share a multiprocessor.
  static constexpr int kPassTokens = kSlice == 128 ? 12 : 16;

  float* state;    // [N, kSlice]
  float* b;        // [interval, N]
  float* x;        // [interval, kSlice]
  float* rows;     // C of a pass [kPassTokens, N], or weighted B of a fold [interval, kFoldRows]
  float* dt;       // [interval]: after softplus
  float* l;        // [interval]: a dt
  float* weights;  // [kPassTokens, 1 + interval]: of the state, then of each input

  __device__ SliceMemory(const StateJob& job, float* shared) {
    state = shared;
    b = state + job.state_dim * kSlice;
    x = b + job.interval * job.state_dim;
    rows = x + job.interval * kSlice;
    dt = rows + NumRowFloats(job);
    l = dt + job.interval;
    weights = l + job.interval;
  }
  __host__ __device__ static int NumRowFloats(const StateJob& job) {
    return std::max(kPassTokens * job.state_dim, job.interval * kFoldRows);
  }
  static int NumFloats(const StateJob& job) {
    return (job.state_dim + job.interval) * kSlice + job.interval * job.state_dim +
           NumRowFloats(job) + 2 * job.interval + kPassTokens * (1 + job.interval);
  }
};

// Tokens whose inputs are the first `first_count`, one more, .. of those that are put.
struct Pass {
  int first_row;  // of the first token
  int num_tokens;
  int first_count;

  __device__ int count(int token) const { return first_count + token; }
  __device__ int most() const { return first_count + num_tokens - 1; }
};

// Channels [first, first + kSlice) of one head of one sequence, from the checkpoint to the last new
// token. Every thread of the block calls every function; all members but the own ones are the same
// in all.
template <int kSlice>
class SliceRun {
 public:
  using Memory = SliceMemory<kSlice>;
  static constexpr int kPassTokens = Memory::kPassTokens;
  static constexpr int kTokenLanes = kSliceThreads / (kSlice / 2);
  static constexpr int kOwnTokens = kPassTokens / kTokenLanes;  // of a thread
  static constexpr int kOwnRows = kFoldRows / kTokenLanes;
  static_assert(kPassTokens % kTokenLanes == 0 && kFoldRows % kTokenLanes == 0);

  __device__ SliceRun(const StateJob& job, const RecurrentSequence& sequence, int head, int first,
                      float* shared)
      : job_(job),
        sequence_(sequence),
        head_(head),
        group_(head / (job.num_heads / job.num_groups)),
        first_channel_(first),
        own_p_(threadIdx.x % (kSlice / 2) * 2),
        own_lane_(threadIdx.x / (kSlice / 2)),
        own_is_real_(first + own_p_ < job.head_dim),
        memory_(job, shared),
        stored_(job.state + sequence.slot * job.slot_stride + head * job.state_size()),
        boundary_(sequence.state_position / job.interval * job.interval),
        has_state_(boundary_ > 0),
        is_stored_(has_state_) {}

  __device__ void Run() {
    if (sequence_.parents == nullptr) {
      RunChain();
    } else {
      RunTree();
    }
  }

 private:
  __device__ int end() const { return sequence_.first_position + sequence_.num_tokens; }
  __device__ int width() const { return min(kSlice, job_.head_dim - first_channel_); }

  // `count` floats to shared memory, by all threads; `i`: this thread's first.
  __device__ void Bring(const float* from, float* to, int i) const {
    if (job_.aligned) {
      CopyAsync(reinterpret_cast<uint4*>(to + 4 * i), reinterpret_cast<const uint4*>(from + 4 * i));
    } else {
#pragma unroll
      for (int j = 4 * i; j < 4 * i + 4; ++j) to[j] = from[j];
    }
  }

  // Once; from then on it is there, or folds have made another.
  __device__ void BringState() {
    const int vectors = width() / 4;
    for (int i = threadIdx.x; is_stored_ && i < job_.state_dim * vectors; i += kSliceThreads) {
      const int n = i / vectors, p = i % vectors * 4;
      CopyAsync(reinterpret_cast<uint4*>(memory_.state + n * kSlice + p),
                reinterpret_cast<const uint4*>(stored_ + n * job_.head_dim + first_channel_ + p));
    }
    is_stored_ = false;
    CommitCopies();
  }

  // B and x of inputs [0, count), whose entries are row(u).
  template <typename Row>
  __device__ void BringInputs(int count, const Row& row) {
    const int b_vectors = job_.state_dim / 4, x_vectors = width() / 4;
    const int vectors = b_vectors + x_vectors;
    for (int i = threadIdx.x; i < count * vectors; i += kSliceThreads) {
      const int u = i / vectors, at = i % vectors;
      const float* entry = row(u);
      if (at < b_vectors) {
        Bring(entry + job_.b_offset() + group_ * job_.state_dim, memory_.b + u * job_.state_dim,
              at);
      } else {
        Bring(entry + group_ * job_.head_dim + first_channel_, memory_.x + u * kSlice,
              at - b_vectors);
      }
    }
  }

  __device__ void Put(int at, float dt) {
    memory_.dt[at] = dt;
    memory_.l[at] = job_.a[head_] * dt;
  }
  __device__ const float* NewEntry(int token) const {
    return job_.xbc[sequence_.first_row + token];
  }
  __device__ float NewStep(int token) const {
    return job_.Step(sequence_.first_row + token, head_);
  }
  // Positions [boundary, end) of a chain.
  __device__ void PutPositions(int end) {
    const int first_new = sequence_.first_position;
    const auto entry = [&](int u) -> const float* {
      const int position = boundary_ + u;
      return position < first_new ? job_.ring.Row(sequence_.slot, position)
                                  : NewEntry(position - first_new);
    };
    BringInputs(end - boundary_, entry);
    for (int u = threadIdx.x; u < end - boundary_; u += kSliceThreads) {
      const int position = boundary_ + u;
      Put(u, position < first_new ? entry(u)[job_.dt_offset() + head_]
                                  : NewStep(position - first_new));
    }
    __syncthreads();
  }

  // Interval after interval; a whole one is folded if there are tokens after it or it is final.
  __device__ void RunChain() {
    while (true) {
      const int whole = boundary_ + job_.interval, last = min(whole, end());
      PutPositions(last);
      const int first_new = max(boundary_, sequence_.first_position);
      for (int position = first_new; position < last; position += kPassTokens) {
        Output({sequence_.first_row + position - sequence_.first_position,
                min(kPassTokens, last - position), position - boundary_ + 1});
      }
      if (last < whole || (last == end() && whole > sequence_.final_end)) return;
      Fold();
    }
  }

  // Inputs that all paths share first, then the path of each token in turn.
  __device__ void RunTree() {
    while (boundary_ + job_.interval <= sequence_.first_position) {
      PutPositions(boundary_ + job_.interval);
      Fold();
    }
    PutPositions(sequence_.first_position);
    const int shared = sequence_.first_position - boundary_;
    for (int i = 0; i < sequence_.num_tokens; ++i) {
      Output({sequence_.first_row + i, 1, PutPath(shared, i)});
    }
    if (boundary_ + job_.interval > sequence_.final_end || sequence_.num_final() == 0) return;
    if (PutPath(shared, sequence_.num_final() - 1) == job_.interval) Fold();
  }

  // Returns how many inputs there are with it.
  __device__ int PutPath(int shared, int token) {
    int depth = 0;
    for (int i = token; i >= 0; i = sequence_.parents[i]) ++depth;
    const auto ancestor = [&](int at) {  // the at-th of the path
      int i = token;
      for (int up = depth - 1; up > at; --up) i = sequence_.parents[i];
      return i;
    };
    const Memory own = memory_;
    memory_.b += shared * job_.state_dim;
    memory_.x += shared * kSlice;
    BringInputs(depth, [&](int at) { return NewEntry(ancestor(at)); });
    memory_ = own;
    for (int at = threadIdx.x; at < depth; at += kSliceThreads) {
      Put(shared + at, NewStep(ancestor(at)));
    }
    __syncthreads();
    return shared + depth;
  }

  // Weight(t, 0) = e^(l_b + .. + l_t), Weight(t, 1 + u) = e^L(u, t): sums in that order, so a
  // thread takes one u along t.
  __device__ void Factors(const Pass& pass) {
    for (int v = threadIdx.x; v <= pass.most(); v += kSliceThreads) {
      if (v >= pass.first_count) Weight(v - pass.first_count, v) = fast_math::Exp(0.0f);
      float decay = 0;
      for (int u = v; u < pass.most(); ++u) {
        decay += memory_.l[u];
        const int token = u + 1 - pass.first_count;
        if (token >= 0) Weight(token, v) = fast_math::Exp(decay);
      }
    }
  }

  __device__ void BringC(const Pass& pass) {
    const int vectors = job_.state_dim / 4;
    for (int i = threadIdx.x; i < pass.num_tokens * vectors; i += kSliceThreads) {
      const int token = i / vectors;
      Bring(job_.xbc[pass.first_row + token] + job_.dt_offset() + head_ * job_.state_dim,
            memory_.rows + token * job_.state_dim, i % vectors);
    }
  }

  // Eight threads a token's input: B . C in eight lanes and the tree.
  __device__ void WeighInputs(const Pass& pass) {
    const int lane = threadIdx.x % kLanes, pairs = pass.num_tokens * pass.most();
    for (int first = 0; first < pairs; first += kSliceThreads / kLanes) {
      const int i = first + threadIdx.x / kLanes, at = min(i, pairs - 1);
      const int token = at / pass.most(), u = at % pass.most();
      const float* b = memory_.b + u * job_.state_dim;
      const float* c = memory_.rows + token * job_.state_dim;
      float dot = 0;
#pragma unroll 8
      for (int n = lane; n < job_.state_dim; n += kLanes) dot = fmaf(b[n], c[n], dot);
      dot = SumOfEightLanes(dot);
      if (lane == 0 && i < pairs && u < pass.count(token)) {
        float& weight = Weight(token, 1 + u);
        weight = weight * memory_.dt[u] * dot;
      }
    }
  }

  __device__ void Output(const Pass& pass) {
    BringC(pass);
    CommitCopies();
    BringState();
    Factors(pass);
    AwaitCopies<1>();  // all but the state
    __syncthreads();
    WeighInputs(pass);
    AwaitCopies<0>();
    __syncthreads();
    if (own_lane_ < pass.num_tokens && own_is_real_) OutputOwn(pass);
    __syncthreads();  // all may be written again
  }

  // Tokens own_lane_, own_lane_ + kTokenLanes, .. of a pass, two channels.
  __device__ void OutputOwn(const Pass& pass) {
    float2 acc[kOwnTokens] = {};
    if (has_state_) MultiplyState(pass, acc);
#pragma unroll 2
    for (int u = 0; u < pass.most(); ++u) {
      const float2 x = OwnX(u);
#pragma unroll
      for (int i = 0; i < kOwnTokens; ++i) {
        const int token = own_lane_ + i * kTokenLanes;
        if (u < pass.count(token)) acc[i] = MultiplyAdd(Weight(token, 1 + u), x, acc[i]);
      }
    }
    const float d = job_.d[head_];
#pragma unroll
    for (int i = 0; i < kOwnTokens; ++i) {
      const int token = own_lane_ + i * kTokenLanes;
      if (token >= pass.num_tokens) break;
      const float2 result = MultiplyAdd(d, OwnX(pass.count(token) - 1), acc[i]);
      float* y = job_.y[pass.first_row + token] + head_ * job_.head_dim + first_channel_ + own_p_;
      y[0] = result.x;
      y[1] = result.y;
    }
  }
  __device__ static float2 MultiplyAdd(float a, const float2& b, const float2& c) {
    return {fmaf(a, b.x, c.x), fmaf(a, b.y, c.y)};
  }
  // Beyond the last token of a pass: anything.
  __device__ float& Weight(int token, int v) const {
    return memory_.weights[token * (job_.interval + 1) + v];
  }
  __device__ float2 OwnX(int u) const {
    return *reinterpret_cast<const float2*>(memory_.x + u * kSlice + own_p_);
  }
  __device__ float2& OwnState(int n) const {
    return *reinterpret_cast<float2*>(memory_.state + n * kSlice + own_p_);
  }

  __device__ void MultiplyState(const Pass& pass, float2 (&acc)[kOwnTokens]) const {
#pragma unroll 2
    for (int n = 0; n < job_.state_dim; n += 4) {
      const float2 s[4] = {OwnState(n), OwnState(n + 1), OwnState(n + 2), OwnState(n + 3)};
#pragma unroll
      for (int i = 0; i < kOwnTokens; ++i) {
        const int token = own_lane_ + i * kTokenLanes;
        if (token >= pass.num_tokens) break;
        const auto c = *reinterpret_cast<const float4*>(memory_.rows + token * job_.state_dim + n);
        acc[i] = MultiplyAdd(c.x, s[0], acc[i]);
        acc[i] = MultiplyAdd(c.y, s[1], acc[i]);
        acc[i] = MultiplyAdd(c.z, s[2], acc[i]);
        acc[i] = MultiplyAdd(c.w, s[3], acc[i]);
      }
    }
#pragma unroll
    for (int i = 0; i < kOwnTokens; ++i) {
      const float decay = Weight(own_lane_ + i * kTokenLanes, 0);
      acc[i] = {decay * acc[i].x, decay * acc[i].y};
    }
  }

  // The whole interval's inputs into the state, which is written once they are final: until then a
  // fold is scratch.
  __device__ void Fold() {
    boundary_ += job_.interval;
    CommitCopies();
    BringState();
    Factors({.first_row = 0, .num_tokens = 1, .first_count = job_.interval});
    AwaitCopies<0>();
    __syncthreads();
    for (int first = 0; first < job_.state_dim; first += kFoldRows) FoldRows(first);
    has_state_ = true;
  }

  __device__ void FoldRows(int first) {
    for (int i = threadIdx.x; i < job_.interval * kFoldRows; i += kSliceThreads) {
      const int u = i / kFoldRows, n = first + i % kFoldRows;
      if (n >= job_.state_dim) continue;
      memory_.rows[i] = Weight(0, 1 + u) * memory_.dt[u] * memory_.b[u * job_.state_dim + n];
    }
    __syncthreads();
    if (own_is_real_) FoldOwn(first + own_lane_ * kOwnRows, memory_.rows + own_lane_ * kOwnRows);
    __syncthreads();
  }

  // kOwnRows rows from n on; `weighted`: their B of the first input.
  __device__ void FoldOwn(int n, const float* weighted) {
    float2 acc[kOwnRows];
#pragma unroll
    for (int i = 0; i < kOwnRows; ++i) {
      acc[i] = {};
      if (!has_state_ || n + i >= job_.state_dim) continue;
      const float2 state = OwnState(n + i);
      acc[i] = {Weight(0, 0) * state.x, Weight(0, 0) * state.y};
    }
#pragma unroll 2
    for (int u = 0; u < job_.interval; ++u) {
      const float2 x = OwnX(u);
#pragma unroll
      for (int i = 0; i < kOwnRows; ++i) {
        acc[i] = MultiplyAdd(weighted[u * kFoldRows + i], x, acc[i]);
      }
    }
    const bool is_final = boundary_ <= sequence_.final_end;
#pragma unroll
    for (int i = 0; i < kOwnRows; ++i) {
      if (n + i >= job_.state_dim) break;
      OwnState(n + i) = acc[i];
      float* to = stored_ + (n + i) * job_.head_dim + first_channel_ + own_p_;
      if (is_final) *reinterpret_cast<float2*>(to) = acc[i];
    }
  }

  const StateJob& job_;
  const RecurrentSequence& sequence_;
  const int head_;
  const int group_;
  const int first_channel_;  // of the slice
  const int own_p_;          // this thread's channels, of the slice: two from here on
  const int own_lane_;       // and its tokens of a pass
  const bool own_is_real_;   // the head has those channels
  Memory memory_;
  float* const stored_;
  int boundary_;  // inputs are those since
  bool has_state_;
  bool is_stored_;  // and has to be brought
};

template <int kSlice>
__global__ void __launch_bounds__(kSliceThreads, 2) UpdateSlices(StateJob job) {
  extern __shared__ float4 shared[];
  StartInOrder();
  const RecurrentSequence sequence(job.batch, blockIdx.y);
  SliceRun<kSlice>(job, sequence, blockIdx.x % job.num_heads, blockIdx.x / job.num_heads * kSlice,
                   reinterpret_cast<float*>(shared))
      .Run();
}

constexpr int kRingBlocks = 4;  // of a sequence

// The inputs that are needed once this call's folds are done.
__global__ void WriteStateRing(StateJob job) {
  StartInOrder();
  const RecurrentSequence sequence(job.batch, blockIdx.y);
  const int thread = blockIdx.x * blockDim.x + threadIdx.x, step = gridDim.x * blockDim.x;
  const int first =
      max(0, sequence.final_end / job.interval * job.interval - sequence.first_position);
  for (int i = first; i < sequence.num_tokens; ++i) {
    float* entry = job.ring.Row(sequence.slot, sequence.position(i));
    const int64_t row = sequence.first_row + i;
    for (int c = thread; c < job.dt_offset(); c += step) entry[c] = job.xbc[row][c];
    for (int h = thread; h < job.num_heads; h += step) {
      entry[job.dt_offset() + h] = job.Step(row, h);
    }
  }
}

constexpr int kMaxStateHeadDim = 256;
constexpr int kMaxSharedBytes = 220 * 1024;
constexpr int64_t kFewHeads = 128;

template <int kSlice>
void LaunchSlices(const CudaContext& context, const StateJob& job) {
  const auto shared_bytes = static_cast<int>(SliceMemory<kSlice>::NumFloats(job) * sizeof(float));
  CHECK_LE(shared_bytes, kMaxSharedBytes) << "state_dim=" << job.state_dim;
  const auto kernel = UpdateSlices<kSlice>;
  KRAIT_CUDA_CHECK(
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes));
  const int slices = (job.head_dim + kSlice - 1) / kSlice;
  const dim3 grid(static_cast<unsigned>(job.num_heads * slices),
                  static_cast<unsigned>(job.batch.num_sequences));
  Launch(context, "SelectiveStateUpdate", kernel, {grid, kSliceThreads, shared_bytes}, job);
}

void CheckShapes(const SelectiveStateUpdateParams& params, const StateJob& job) {
  const int64_t num_tokens = params.xbc.dim(0), heads = job.num_heads;
  CHECK(job.head_dim % 8 == 0 && job.head_dim <= kMaxStateHeadDim) << job.head_dim;
  CHECK(job.state_dim % 8 == 0 && job.state_dim > 0) << job.state_dim;
  CHECK_EQ(params.ring.dim(2), job.dt_offset() + heads);
  CHECK_EQ(heads % job.num_groups, 0);
  CHECK_EQ(params.xbc.dim(1), job.dt_offset() + heads * job.state_dim);
  CHECK(params.dt.shape == (Shape{num_tokens, heads})) << params.dt.shape.ToString();
  CHECK(params.y.shape == (Shape{num_tokens, heads * job.head_dim}));
  for (const TensorView& each : {params.dt_bias, params.a, params.d}) CHECK_EQ(each.dim(0), heads);
  CHECK(job.interval >= 1 && job.interval <= kMaxFoldInterval);
  CHECK_EQ(params.ring.dim(0), params.state.dim(0));
  CHECK_EQ(params.state.row_stride % 4, 0);
}

}  // namespace

void RunSelectiveStateUpdate(const CudaContext& context, const SelectiveStateUpdateParams& params) {
  StateJob job(params);
  CheckShapes(params, job);
  const int num_sequences = params.batch.num_sequences;
  if (num_sequences == 0) return;
  // Whole heads read least; slices of them keep more multiprocessors busy.
  const bool few = int64_t{num_sequences} * job.num_heads < kFewHeads;
  if (job.head_dim <= 32 || few) {
    LaunchSlices<32>(context, job);
  } else if (job.head_dim <= 64) {
    LaunchSlices<64>(context, job);
  } else {
    LaunchSlices<128>(context, job);
  }
  Launch(context, "SelectiveStateUpdate (ring)", WriteStateRing,
         {dim3(kRingBlocks, static_cast<unsigned>(num_sequences)), kThreads}, job);
}

}  // namespace krait::kernels
