// The formula and its order: ops/selective_state_update.h; the CPU's bits. A block has one head of
// one sequence, threads along its channels p. A second kernel writes the ring once every head has
// read what is there.
//   v1  the state stays in memory, token after token   (current)

#include "common/logging.h"
#include "kernels/cuda/cuda_check.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/recurrent.cuh"
#include "kernels/cuda/reduce.cuh"

namespace krait::kernels {
namespace {

constexpr int kHeadThreads = 128;
constexpr int kLanes = 8;

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
  float* scratch = nullptr;  // [sequences, heads, N, P]: states beyond what is final

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
        num_groups((ring.width - num_heads) / (head_dim + state_dim)) {}

  __host__ __device__ int64_t state_size() const { return int64_t{state_dim} * head_dim; }
  __host__ __device__ int b_offset() const { return num_groups * head_dim; }
  __host__ __device__ int dt_offset() const { return num_groups * (head_dim + state_dim); }
  // The step of a new token: what projected dt becomes.
  __device__ float Step(int64_t row, int head) const {
    return fast_math::Softplus(dt[row][head] + dt_bias[head]);
  }
};

// The inputs since the checkpoint up to some token, shared by a block.
struct Inputs {
  const float* x[kMaxFoldInterval];
  const float* b[kMaxFoldInterval];
  float dt[kMaxFoldInterval];  // after softplus
  float l[kMaxFoldInterval];   // a dt
  float weights[kMaxFoldInterval + 1];
};

// One head of one sequence, from the checkpoint to the last new token. Every thread of the block
// calls every function; `count_` and the like are the same in all.
class HeadRun {
 public:
  __device__ HeadRun(const StateJob& job, const RecurrentSequence& sequence, int head,
                     Inputs& inputs)
      : job_(job),
        sequence_(sequence),
        head_(head),
        group_(head / (job.num_heads / job.num_groups)),
        a_(job.a[head]),
        inputs_(inputs),
        stored_(job.state + sequence.slot * job.slot_stride + head * job.state_size()),
        boundary_(sequence.state_position / job.interval * job.interval) {
    if (boundary_ > 0) state_ = stored_;
  }

  __device__ void Run() {
    for (int position = boundary_; position < sequence_.first_position; ++position) {
      FoldIfWhole();
      const float* row = job_.ring.Row(sequence_.slot, position);
      Put(count_++, row, row[job_.dt_offset() + head_]);
    }
    if (sequence_.parents == nullptr) {
      RunChain();
    } else {
      RunTree();
    }
    if (boundary_ + job_.interval <= sequence_.final_end) FoldIfWhole();
  }

 private:
  __device__ void Put(int at, const float* row, float dt) {
    if (threadIdx.x != 0) return;
    inputs_.x[at] = row + group_ * job_.head_dim;
    inputs_.b[at] = row + job_.b_offset() + group_ * job_.state_dim;
    inputs_.dt[at] = dt;
    inputs_.l[at] = a_ * dt;
  }
  __device__ void PutNew(int at, int token) {
    const int row = sequence_.first_row + token;
    Put(at, job_.xbc[row], job_.Step(row, head_));
  }

  __device__ void RunChain() {
    for (int i = 0; i < sequence_.num_tokens; ++i) {
      FoldIfWhole();
      PutNew(count_++, i);
      Output(i, count_);
    }
  }

  // Inputs that all paths share first, then the path of each token in turn.
  __device__ void RunTree() {
    FoldIfWhole();
    const int shared = count_;
    for (int i = 0; i < sequence_.num_tokens; ++i) Output(i, PutPath(shared, i));
    if (sequence_.num_final() > 0) count_ = PutPath(shared, sequence_.num_final() - 1);
  }

  __device__ int PutPath(int shared, int token) {
    int depth = 0;
    for (int i = token; i >= 0; i = sequence_.parents[i]) ++depth;
    for (int i = token, at = shared + depth - 1; i >= 0; i = sequence_.parents[i], --at) {
      PutNew(at, i);
    }
    return shared + depth;
  }

  // weights[0] = e^(l_b + .. + l_t), weights[1 + u] = e^L(u, t): sums in that order.
  __device__ void Factors(int count) {
    __syncthreads();  // inputs are there; weights of the token before are used up
    for (int j = threadIdx.x; j <= count; j += kHeadThreads) {
      float decay = 0;
      for (int u = j; u < count; ++u) decay += inputs_.l[u];
      inputs_.weights[j] = fast_math::Exp(decay);
    }
    __syncthreads();
  }

  // Eight threads an input: B . C in eight lanes and the tree.
  __device__ void WeighInputs(int count, const float* c) {
    const int lane = threadIdx.x % kLanes;
    for (int first = 0; first < count; first += kHeadThreads / kLanes) {
      const int u = first + threadIdx.x / kLanes;
      const float* b = inputs_.b[min(u, count - 1)];
      float dot = 0;
      for (int n = lane; n < job_.state_dim; n += kLanes) dot = fmaf(b[n], c[n], dot);
      dot = SumOfEightLanes(dot);
      if (lane == 0 && u < count) {
        inputs_.weights[1 + u] = inputs_.weights[1 + u] * inputs_.dt[u] * dot;
      }
    }
    __syncthreads();
  }

  // Of the last of `count` inputs, which is new token `token`.
  __device__ void Output(int token, int count) {
    const int64_t row = sequence_.first_row + token;
    const float* c = job_.xbc[row] + job_.dt_offset() + head_ * job_.state_dim;
    Factors(count);
    WeighInputs(count, c);
    for (int p = threadIdx.x; p < job_.head_dim; p += kHeadThreads) {
      float acc = 0;
      if (state_ != nullptr) {
        for (int n = 0; n < job_.state_dim; ++n) {
          acc = fmaf(state_[n * job_.head_dim + p], c[n], acc);
        }
        acc = inputs_.weights[0] * acc;
      }
      for (int u = 0; u < count; ++u) acc = fmaf(inputs_.weights[1 + u], inputs_.x[u][p], acc);
      job_.y[row][head_ * job_.head_dim + p] = fmaf(job_.d[head_], inputs_.x[count - 1][p], acc);
    }
    __syncthreads();  // inputs may be put again
  }

  // Written only once the whole interval is final: until then a fold is scratch.
  __device__ void FoldIfWhole() {
    if (count_ < job_.interval) return;
    boundary_ += job_.interval;
    const int64_t index = int64_t{blockIdx.y} * job_.num_heads + head_;
    float* to =
        boundary_ > sequence_.final_end ? job_.scratch + index * job_.state_size() : stored_;
    Factors(count_);
    for (int i = threadIdx.x; i < job_.state_dim * job_.head_dim; i += kHeadThreads) {
      const int n = i / job_.head_dim, p = i % job_.head_dim;
      float acc = state_ == nullptr ? 0.0f : inputs_.weights[0] * state_[i];
      for (int u = 0; u < count_; ++u) {
        const float weight = inputs_.weights[1 + u] * inputs_.dt[u] * inputs_.b[u][n];
        acc = fmaf(weight, inputs_.x[u][p], acc);
      }
      to[i] = acc;
    }
    __syncthreads();
    state_ = to;
    count_ = 0;
  }

  const StateJob& job_;
  const RecurrentSequence& sequence_;
  const int head_;
  const int group_;
  const float a_;
  Inputs& inputs_;
  float* const stored_;
  int boundary_;                  // inputs are those since
  const float* state_ = nullptr;  // at the boundary; null: 0
  int count_ = 0;
};

__global__ void __launch_bounds__(kHeadThreads) UpdateHeads(StateJob job) {
  __shared__ Inputs inputs;
  const RecurrentSequence sequence(job.batch, blockIdx.y);
  HeadRun(job, sequence, blockIdx.x, inputs).Run();
}

// A block a sequence: the inputs that are needed once this call's folds are done.
__global__ void WriteStateRing(StateJob job) {
  const RecurrentSequence sequence(job.batch, blockIdx.x);
  const int first =
      max(0, sequence.final_end / job.interval * job.interval - sequence.first_position);
  for (int i = first; i < sequence.num_tokens; ++i) {
    float* entry = job.ring.Row(sequence.slot, sequence.position(i));
    const int64_t row = sequence.first_row + i;
    for (int c = threadIdx.x; c < job.dt_offset(); c += blockDim.x) entry[c] = job.xbc[row][c];
    for (int h = threadIdx.x; h < job.num_heads; h += blockDim.x) {
      entry[job.dt_offset() + h] = job.Step(row, h);
    }
  }
}

constexpr int kMaxStateHeadDim = 256;

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
}

}  // namespace

void RunSelectiveStateUpdate(const CudaContext& context, const SelectiveStateUpdateParams& params) {
  StateJob job(params);
  CheckShapes(params, job);
  const int num_sequences = params.batch.num_sequences;
  if (num_sequences == 0) return;
  job.scratch =
      context.workspace->Get<float>(int64_t{num_sequences} * job.num_heads * job.state_size());
  const dim3 grid(static_cast<unsigned>(job.num_heads), static_cast<unsigned>(num_sequences));
  UpdateHeads<<<grid, kHeadThreads, 0, context.stream>>>(job);
  WriteStateRing<<<static_cast<unsigned>(num_sequences), kThreads, 0, context.stream>>>(job);
  KRAIT_CHECK_LAUNCH("SelectiveStateUpdate");
}

}  // namespace krait::kernels
