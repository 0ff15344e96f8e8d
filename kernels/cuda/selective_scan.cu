// The formula and its order: ops/selective_scan.h; the CPU's bits. A block has one group of N
// channels of one sequence, a thread a channel with its column of the state; a token follows the
// other. A second kernel writes the rings once every group has read what is there.
//   v1  the state stays in memory between tokens   (current)

#include "common/logging.h"
#include "kernels/cuda/cuda_check.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/recurrent.cuh"

namespace krait::kernels {
namespace {

struct ScanJob {
  RecurrentBatch batch;
  Rows x, b, c, dt, z;
  ResultRows y;
  ConvWeight conv;
  const float* dt_bias = nullptr;
  const float* a = nullptr;  // [groups, N, N]
  const float* d = nullptr;
  float* state = nullptr;
  int64_t slot_stride = 0;
  Ring ring, conv_ring;
  int64_t inputs = 0, group_size = 0, num_groups = 0, repeat = 0;
  float* scratch = nullptr;  // [sequences, or new tokens of a tree][groups][N][N]: of drafts

  explicit ScanJob(const SelectiveScanParams& params)
      : batch(params.batch),
        x(params.x),
        b(params.b),
        c(params.c),
        dt(params.dt),
        z(params.z),
        y(params.y),
        conv{.taps = params.conv_weight.ptr<float>(),
             .bias = params.conv_bias.ptr<float>(),
             .channels = params.c.dim(1),
             .num_taps = static_cast<int>(params.conv_weight.dim(0))},
        dt_bias(params.dt_bias.ptr<float>()),
        a(params.a.ptr<float>()),
        d(params.d.ptr<float>()),
        state(params.state.ptr<float>()),
        slot_stride(params.state.row_stride),
        ring(params.ring),
        conv_ring(params.conv_ring),
        inputs(params.x.dim(1)),
        group_size(params.state.dim(2)),
        num_groups(params.c.dim(1) / group_size),
        repeat(params.c.dim(1) / inputs) {}

  __host__ __device__ int64_t state_size() const { return group_size * group_size; }
  __device__ float* Scratch(int64_t index, int64_t group) const {
    return scratch + (index * num_groups + group) * state_size();
  }
};

// What one token brings to one group; c null where no output is wanted.
struct ScanToken {
  ConvTaps taps;
  const float* b = nullptr;
  const float* c = nullptr;
  const float* dt = nullptr;
  const float* z = nullptr;
};

// One group of one sequence, as thread p of it.
class GroupRun {
 public:
  __device__ GroupRun(const ScanJob& job, const RecurrentSequence& sequence, int64_t group)
      : job_(job),
        sequence_(sequence),
        group_(group),
        p_(threadIdx.x),
        channel_(group * job.group_size + threadIdx.x),
        first_input_(group / job.repeat * job.group_size),
        stored_(job.state + sequence.slot * job.slot_stride + group * job.state_size()) {}

  __device__ void Run() {
    if (sequence_.state_position == 0) {
      for (int64_t n = 0; n < job_.group_size; ++n) stored_[n * job_.group_size + p_] = 0;
    }
    const int num_final = sequence_.num_final();
    float* h = stored_;
    for (int t = sequence_.state_position; t < sequence_.first_position; ++t) {
      h = StateFor(t, h);
      Advance(Earlier(t), h, h, -1);
    }
    if (sequence_.parents != nullptr) return RunTree(num_final, h);
    for (int i = 0; i < sequence_.num_tokens; ++i) {
      float* next = StateFor(sequence_.position(i), h);
      Advance(New(i), h, next, sequence_.first_row + i);
      h = next;
    }
  }

 private:
  // Where the token at `position` leaves its state, given where the one before left it: drafts'
  // states are never stored.
  __device__ float* StateFor(int position, float* before) {
    if (position < sequence_.final_end) return stored_;
    float* drafted = job_.Scratch(blockIdx.y, group_);
    if (before != drafted) Copy(before, drafted);
    return drafted;
  }

  __device__ void Copy(const float* from, float* to) const {
    for (int64_t n = 0; n < job_.group_size; ++n) {
      to[n * job_.group_size + p_] = from[n * job_.group_size + p_];
    }
  }

  // Every draft starts from its parent's state.
  __device__ void RunTree(int num_final, float* h) {
    for (int i = 0; i < num_final; ++i) Advance(New(i), stored_, stored_, sequence_.first_row + i);
    const float* root = num_final > 0 ? stored_ : h;
    const int64_t own =
        job_.batch.num_sequences + sequence_.first_row;  // after the chains' scratch
    for (int i = num_final; i < sequence_.num_tokens; ++i) {
      const int parent = sequence_.parents[i];
      const float* from = parent < num_final ? root : job_.Scratch(own + parent, group_);
      Advance(New(i), from, job_.Scratch(own + i, group_), sequence_.first_row + i);
    }
  }

  __device__ ScanToken Earlier(int position) const {
    ScanToken token;
    token.taps.LocateCommitted(sequence_, job_.conv_ring, job_.conv.num_taps, position);
    const float* entry = job_.ring.Row(sequence_.slot, position);
    token.b = entry + first_input_;
    token.dt = entry + job_.inputs;
    return token;
  }

  __device__ ScanToken New(int i) const {
    const int row = sequence_.first_row + i;
    ScanToken token;
    token.taps.Locate(sequence_, job_.x, job_.conv_ring, job_.conv.num_taps, i);
    token.b = job_.b[row] + first_input_;
    token.c = job_.c[row] + group_ * job_.group_size;
    token.dt = job_.dt[row];
    token.z = job_.z[row];
    return token;
  }

  // h of the token before in `from`, of this one in `to`; row -1: no output.
  __device__ void Advance(const ScanToken& token, const float* from, float* to, int64_t row) const {
    const float x =
        Convolve(job_.conv, first_input_ + p_, channel_, [&](int j) { return token.taps.row[j]; });
    const float delta = fast_math::Softplus(token.dt[channel_] + job_.dt_bias[channel_]);
    const float input = delta * x;
    const float* a = job_.a + group_ * job_.state_size() + p_;
    float sum = 0;
    for (int64_t n = 0; n < job_.group_size; ++n) {
      const int64_t at = n * job_.group_size;
      const float decay = fast_math::Exp(delta * a[at]);
      const float next = fmaf(input, token.b[n], decay * from[at + p_]);
      to[at + p_] = next;
      if (row >= 0) sum = fmaf(next, token.c[n], sum);
    }
    if (row < 0) return;
    job_.y.Store(row, channel_,
                 fmaf(job_.d[channel_], x, sum) * fast_math::Silu(token.z[channel_]));
  }

  const ScanJob& job_;
  const RecurrentSequence& sequence_;
  const int64_t group_;
  const int p_;
  const int64_t channel_;
  const int64_t first_input_;
  float* const stored_;
};

__global__ void Scan(ScanJob job) {
  if (threadIdx.x >= job.group_size) return;
  const RecurrentSequence sequence(job.batch, blockIdx.y);
  GroupRun(job, sequence, blockIdx.x).Run();
}

// Drafts' B and dt, and x as the next convolutions need it. A block a sequence.
__global__ void WriteScanRings(ScanJob job) {
  const RecurrentSequence sequence(job.batch, blockIdx.x);
  const int64_t channels = job.conv.channels;
  for (int i = sequence.num_final(); i < sequence.num_tokens; ++i) {
    float* entry = job.ring.Row(sequence.slot, sequence.position(i));
    const int row = sequence.first_row + i;
    for (int64_t c = threadIdx.x; c < job.inputs; c += blockDim.x) entry[c] = job.b[row][c];
    for (int64_t c = threadIdx.x; c < channels; c += blockDim.x) {
      entry[job.inputs + c] = job.dt[row][c];
    }
  }
  for (int i = job.conv_ring.FirstKept(sequence); i < sequence.num_tokens; ++i) {
    float* entry = job.conv_ring.Row(sequence.slot, sequence.position(i));
    const float* x = job.x[sequence.first_row + i];
    for (int64_t c = threadIdx.x; c < job.inputs; c += blockDim.x) entry[c] = x[c];
  }
}

void CheckShapes(const SelectiveScanParams& params, const ScanJob& job) {
  const int64_t num_tokens = params.x.dim(0), n = job.group_size, taps = job.conv.num_taps;
  CHECK(n % 8 == 0 && n > 0 && n <= 1024) << n;
  CHECK_EQ(job.inputs % n, 0);
  CHECK_EQ(job.conv.channels, job.inputs * job.repeat);
  CHECK(params.state.shape == (Shape{params.state.dim(0), job.num_groups, n, n}));
  CHECK(params.a.shape == (Shape{job.num_groups, n, n}));
  CHECK(params.b.shape == params.x.shape);
  for (const TensorView& each : {params.c, params.dt, params.z, params.y}) {
    CHECK(each.shape == (Shape{num_tokens, job.conv.channels})) << each.shape.ToString();
  }
  for (const TensorView& each : {params.conv_bias, params.dt_bias, params.d}) {
    CHECK_EQ(each.dim(0), job.conv.channels);
  }
  CHECK(taps >= 1 && taps <= kMaxConvTaps && params.conv_weight.dim(1) == job.conv.channels);
  CHECK_EQ(params.ring.dim(2), job.inputs + job.conv.channels);
  CHECK_EQ(params.conv_ring.dim(2), job.inputs);
}

}  // namespace

void RunSelectiveScan(const CudaContext& context, const SelectiveScanParams& params) {
  ScanJob job(params);
  CheckShapes(params, job);
  const int num_sequences = params.batch.num_sequences;
  if (num_sequences == 0) return;
  const int64_t tree_tokens = params.batch.parents == nullptr ? 0 : params.x.dim(0);
  job.scratch = context.workspace->Get<float>((num_sequences + tree_tokens) * job.num_groups *
                                              job.state_size());
  const auto threads = static_cast<unsigned>((job.group_size + 31) / 32 * 32);
  const dim3 grid(static_cast<unsigned>(job.num_groups), static_cast<unsigned>(num_sequences));
  Scan<<<grid, threads, 0, context.stream>>>(job);
  WriteScanRings<<<static_cast<unsigned>(num_sequences), kThreads, 0, context.stream>>>(job);
  KRAIT_CHECK_LAUNCH("SelectiveScan");
}

}  // namespace krait::kernels
