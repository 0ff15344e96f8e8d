#include "worker/runner/rank_group.h"

#include <pthread.h>

#include <algorithm>
#include <optional>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "common/logging.h"
#include "common/status_macros.h"
#include "worker/comm/control_channel.h"
#include "worker/comm/in_process_communicator.h"
#include "worker/layers/sharding.h"
#include "worker/models/model_registry.h"
#include "worker/runner/rank_executor.h"
#include "worker/weights/checkpoint.h"

namespace krait {
namespace {

// One rank's belongings; its thread is the only one to touch them once it runs.
struct Rank {
  std::unique_ptr<Backend> backend;
  std::unique_ptr<Communicator> comm;
  std::unique_ptr<ModelRunner> runner;
  std::unique_ptr<RankExecutor> executor;
};

}  // namespace

struct RankGroup::State {
  explicit State(const RankGroupOptions& options)
      : options(options),
        num_ranks(options.tensor_parallel_size),
        channel(num_ranks, 2),
        ranks(num_ranks),
        loading(num_ranks, 0.0),
        unloaded(num_ranks) {}
  ~State();

  void MakeRanks();
  void StartThreads();
  void RunRank(int index);
  absl::Status LoadRank(int index);
  void ExecutePlans(int index);
  void ReportProgress(int index, double fraction);
  void Fail(int index, const absl::Status& status);
  absl::Status AwaitLoaded();
  bool IsLoaded() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    return unloaded == 0 || !error.ok();
  }
  bool HasAnswer() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    return result.has_value() || !error.ok();
  }

  // Constant once the threads run.
  const RankGroupOptions options;
  const int num_ranks;
  std::optional<Checkpoint> checkpoint;  // closed after loading
  ModelConfig config;
  std::string weights_digest;

  ControlChannel<StepPlan> channel;
  std::vector<Rank> ranks;
  std::vector<std::thread> threads;

  absl::Mutex mutex;
  std::vector<double> loading ABSL_GUARDED_BY(mutex);  // by rank, 0 to 1
  int unloaded ABSL_GUARDED_BY(mutex);                 // ranks
  std::optional<StepResult> result ABSL_GUARDED_BY(mutex);
  absl::Status error ABSL_GUARDED_BY(mutex);  // the first
};

RankGroup::State::~State() {
  channel.Close();
  for (Rank& rank : ranks) {
    if (rank.comm != nullptr) rank.comm->Abort();
  }
  for (std::thread& thread : threads) thread.join();
}

void RankGroup::State::MakeRanks() {
  std::vector<Backend*> backends;
  for (int r = 0; r < num_ranks; ++r) {
    const int64_t num_threads = OwnedUnits(options.num_threads, r, num_ranks).size();
    ranks[r].backend = CreateCpuBackend(
        {.index = r, .num_threads = static_cast<int>(std::max<int64_t>(1, num_threads))});
    backends.push_back(ranks[r].backend.get());
  }
  std::vector<std::unique_ptr<Communicator>> comms = CreateInProcessGroup(backends);
  for (int r = 0; r < num_ranks; ++r) ranks[r].comm = std::move(comms[r]);
}

void RankGroup::State::StartThreads() {
  for (int r = 0; r < num_ranks; ++r) {
    threads.emplace_back([this, r] { RunRank(r); });
  }
}

void RankGroup::State::RunRank(int index) {
  pthread_setname_np(pthread_self(), absl::StrCat("krait-rank-", index).c_str());
  if (const absl::Status status = LoadRank(index); !status.ok()) {
    Fail(index, status);
    return;
  }
  {
    absl::MutexLock lock(&mutex);
    --unloaded;
  }
  ExecutePlans(index);
}

absl::Status RankGroup::State::LoadRank(int index) {
  Rank& rank = ranks[index];
  ModelRunnerOptions runner_options = options.runner;
  runner_options.on_progress = [this, index](double fraction) { ReportProgress(index, fraction); };
  ASSIGN_OR_RETURN(rank.runner, ModelRunner::Create(runner_options, config, *checkpoint,
                                                    rank.backend.get(), rank.comm.get()));
  rank.executor = std::make_unique<RankExecutor>(rank.runner.get());
  return absl::OkStatus();
}

void RankGroup::State::ReportProgress(int index, double fraction) {
  if (!options.runner.on_progress) return;
  absl::MutexLock lock(&mutex);
  loading[index] = fraction;
  double sum = 0;
  for (const double loaded : loading) sum += loaded;
  options.runner.on_progress(sum / num_ranks);
}

void RankGroup::State::ExecutePlans(int index) {
  while (const std::shared_ptr<const StepPlan> plan = channel.Receive(index)) {
    absl::StatusOr<StepResult> answer = ranks[index].executor->Execute(*plan);
    if (!answer.ok()) {
      Fail(index, answer.status());
      return;
    }
    if (index != 0) continue;
    absl::MutexLock lock(&mutex);
    result = *std::move(answer);
  }
}

void RankGroup::State::Fail(int index, const absl::Status& status) {
  {
    absl::MutexLock lock(&mutex);
    // Peers fail with UNAVAILABLE once the group is aborted below; the cause came first.
    if (error.ok()) error = status;
  }
  channel.Close();
  ranks[index].comm->Abort();
}

absl::Status RankGroup::State::AwaitLoaded() {
  absl::MutexLock lock(&mutex);
  mutex.Await(absl::Condition(this, &State::IsLoaded));
  return error;
}

RankGroup::RankGroup() = default;

RankGroup::~RankGroup() = default;

absl::StatusOr<std::unique_ptr<RankGroup>> RankGroup::Create(const RankGroupOptions& options) {
  ASSIGN_OR_RETURN(Checkpoint checkpoint, Checkpoint::Open(options.model_path));
  ASSIGN_OR_RETURN(ModelConfig config, ModelConfig::Load(checkpoint));
  // Before anything is started: a bad degree is the commonest mistake.
  RETURN_IF_ERROR(MakeSharding(ShardingDimsOf(config), 0, options.tensor_parallel_size).status());
  std::unique_ptr<RankGroup> group(new RankGroup());
  group->state_ = std::make_unique<State>(options);
  State& state = *group->state_;
  state.checkpoint = std::move(checkpoint);
  state.config = std::move(config);
  state.MakeRanks();
  state.StartThreads();
  const absl::StatusOr<std::string> digest = state.checkpoint->WeightsDigest(1);
  RETURN_IF_ERROR(state.AwaitLoaded());
  ASSIGN_OR_RETURN(state.weights_digest, digest);
  RETURN_IF_ERROR(state.checkpoint->CheckAllRead());
  state.checkpoint.reset();
  return group;
}

absl::StatusOr<StepResult> RankGroup::Execute(std::shared_ptr<const StepPlan> plan,
                                              absl::Duration deadline) {
  State& state = *state_;
  state.channel.Broadcast(plan);  // false after an error, which is returned below
  absl::MutexLock lock(&state.mutex);
  if (!state.mutex.AwaitWithTimeout(absl::Condition(&state, &State::HasAnswer), deadline)) {
    state.error = absl::DeadlineExceededError(
        absl::StrCat("step ", plan->step_id, " took longer than ", absl::FormatDuration(deadline)));
  }
  if (!state.error.ok()) return state.error;
  StepResult result = *std::move(state.result);
  state.result.reset();
  return result;
}

const ModelConfig& RankGroup::config() const { return state_->config; }

const std::string& RankGroup::weights_digest() const { return state_->weights_digest; }

int64_t RankGroup::weight_bytes() const {
  int64_t bytes = 0;
  for (const Rank& rank : state_->ranks) bytes += rank.runner->weight_bytes();
  return bytes;
}

int64_t RankGroup::kv_bytes_per_token() const {
  int64_t bytes = 0;
  for (const Rank& rank : state_->ranks) bytes += rank.runner->kv_bytes_per_token();
  return bytes;
}

int RankGroup::num_state_slots() const { return state_->ranks[0].runner->num_state_slots(); }

int64_t RankGroup::state_bytes_per_slot() const {
  int64_t bytes = 0;
  for (const Rank& rank : state_->ranks) bytes += rank.runner->state_spec().bytes_per_slot();
  return bytes;
}

StateTraffic RankGroup::state_traffic() const {
  StateTraffic sum;
  for (const Rank& rank : state_->ranks) sum += rank.runner->state_traffic();
  return sum;
}

int64_t RankGroup::num_state_copies() const {
  int64_t copies = 0;
  for (const Rank& rank : state_->ranks) copies += rank.runner->num_state_copies();
  return copies;
}

std::vector<std::string> RankGroup::devices() const {
  std::vector<std::string> devices;
  for (const Rank& rank : state_->ranks) devices.push_back(rank.backend->device().ToString());
  return devices;
}

}  // namespace krait
