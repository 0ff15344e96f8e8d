#include "worker/runner/rank_group.h"

#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <deque>
#include <optional>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "common/logging.h"
#include "common/owned_units.h"
#include "common/status_macros.h"
#include "worker/comm/control_channel.h"
#include "worker/comm/gloo_communicator.h"
#include "worker/comm/in_process_communicator.h"
#include "worker/layers/sharding.h"
#include "worker/models/model_registry.h"
#include "worker/models/model_shape.h"
#include "worker/runner/process_report.h"
#include "worker/runner/rank_executor.h"
#include "worker/runner/step_plan_codec.h"
#include "worker/weights/checkpoint.h"

namespace krait {
namespace {

// Between plans a follower says twice in this time that it still turns.
constexpr absl::Duration kFollowerTurn = absl::Milliseconds(500);

// What a rank does next: starts a plan, or finishes the one it started first.
struct RankOrder {
  std::shared_ptr<const StepPlan> plan;  // null: finish
};

// One rank's belongings; its thread is the only one to touch them once it runs, but for `comm`.
struct Rank {
  std::unique_ptr<Backend> backend;
  std::unique_ptr<GlooEndpoint> endpoint;  // until connected
  std::vector<std::string> addresses;      // of the peers, by rank, for endpoint
  std::unique_ptr<Communicator> comm;      // written under State::mutex
  std::unique_ptr<ModelRunner> runner;
  std::unique_ptr<RankExecutor> executor;
};

}  // namespace

struct RankGroup::State {
  explicit State(const RankGroupOptions& options)
      : options(options),
        own(OwnedUnits(options.tensor_parallel_size, options.processes.process_index,
                       options.processes.num_processes)),
        num_ranks(static_cast<int>(own.size())),
        channel(num_ranks, 2 * RankExecutor::kMaxStarted),
        ranks(num_ranks),
        loading(num_ranks, 0.0),
        unloaded(num_ranks) {}
  ~State();

  absl::Status MakeRanks();
  absl::Status SwapAddresses();
  void StartThreads();
  void RunRank(int index);
  absl::Status Connect(Rank& rank);
  absl::Status LoadRank(int index);
  void ObeyOrders(int index);
  absl::Status Obey(const RankOrder& order, int index);
  void ReportProgress(int index, double fraction);
  void Fail(const absl::Status& status);
  absl::Status AwaitLoaded();
  absl::Status FinishLoading(const absl::StatusOr<std::string>& digest);
  ProcessReport Report() const;
  absl::Status ShareReports(const absl::Status& loaded);
  void StartHere(std::shared_ptr<const StepPlan> plan);
  absl::StatusOr<StepResult> FinishHere(absl::Duration deadline);
  absl::Status FollowOnce(absl::Duration step_deadline);
  bool IsLoaded() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    return unloaded == 0 || !error.ok();
  }
  bool HasAnswer() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    return !results.empty() || !error.ok();
  }

  // Constant once the threads run.
  const RankGroupOptions options;
  const Range own;                       // ranks of this process
  const int num_ranks;                   // of this process; below, indices are of these
  std::optional<Checkpoint> checkpoint;  // closed after loading
  ModelConfig config;

  // Constant after Create.
  std::string weights_digest;
  int64_t weight_bytes = 0;
  int64_t kv_bytes_per_token = 0;
  int64_t state_bytes_per_slot = 0;
  std::vector<RankPlace> places;

  std::deque<int64_t> unfinished;  // step ids; the caller's thread only
  ControlChannel<RankOrder> channel;
  std::vector<Rank> ranks;
  std::vector<std::thread> threads;

  absl::Mutex mutex;
  std::vector<double> loading ABSL_GUARDED_BY(mutex);     // by rank, 0 to 1
  int unloaded ABSL_GUARDED_BY(mutex);                    // ranks
  std::deque<StepResult> results ABSL_GUARDED_BY(mutex);  // of finished steps, oldest first
  absl::Status error ABSL_GUARDED_BY(mutex);              // the first
  // Its threads call Fail, so it goes first.
  std::unique_ptr<ProcessGroup> processes;  // null if there is but one
};

RankGroup::State::~State() {
  if (processes != nullptr && processes->leads()) {
    absl::MutexLock lock(&mutex);
    if (error.ok()) processes->Leave();
  }
  processes.reset();
  Fail(absl::CancelledError("the group is being destroyed"));
  for (std::thread& thread : threads) thread.join();
}

absl::Status RankGroup::State::MakeRanks() {
  std::vector<Backend*> backends;
  for (int i = 0; i < num_ranks; ++i) {
    const int64_t num_threads = OwnedUnits(options.num_threads, i, num_ranks).size();
    Device device = options.device;
    device.index += static_cast<int>(own.begin) + i;
    ASSIGN_OR_RETURN(ranks[i].backend,
                     CreateBackend(device, static_cast<int>(std::max<int64_t>(1, num_threads))));
    backends.push_back(ranks[i].backend.get());
  }
  if (processes != nullptr) return SwapAddresses();
  std::vector<std::unique_ptr<Communicator>> comms = CreateInProcessGroup(backends);
  for (int i = 0; i < num_ranks; ++i) ranks[i].comm = std::move(comms[i]);
  return absl::OkStatus();
}

// Every rank listens; every process tells all where its ranks are found, process 0 passing it on.
absl::Status RankGroup::State::SwapAddresses() {
  const int size = options.tensor_parallel_size;
  std::vector<std::string> mine;
  for (int i = 0; i < num_ranks; ++i) {
    ASSIGN_OR_RETURN(ranks[i].endpoint,
                     GlooEndpoint::Listen({.rank = static_cast<int>(own.begin) + i,
                                           .size = size,
                                           .host = processes->local_host()}));
    const std::vector<std::string>& addresses = ranks[i].endpoint->addresses();
    mine.insert(mine.end(), addresses.begin(), addresses.end());
  }
  ASSIGN_OR_RETURN(const std::vector<std::string> all, processes->Exchange(PackStrings(mine)));
  std::vector<std::string> matrix;  // [from rank, to rank]
  for (const std::string& packed : all) {
    ASSIGN_OR_RETURN(const std::vector<std::string> theirs, UnpackStrings(packed));
    matrix.insert(matrix.end(), theirs.begin(), theirs.end());
  }
  if (static_cast<int>(matrix.size()) != size * size) {
    return absl::InternalError(absl::StrCat("got ", matrix.size(), " addresses of ", size * size));
  }
  for (int i = 0; i < num_ranks; ++i) {
    for (int peer = 0; peer < size; ++peer) {
      ranks[i].addresses.push_back(matrix[peer * size + own.begin + i]);
    }
  }
  return absl::OkStatus();
}

void RankGroup::State::StartThreads() {
  for (int i = 0; i < num_ranks; ++i) {
    threads.emplace_back([this, i] { RunRank(i); });
  }
}

void RankGroup::State::RunRank(int index) {
  pthread_setname_np(pthread_self(), absl::StrCat("krait-rank-", own.begin + index).c_str());
  if (const absl::Status status = LoadRank(index); !status.ok()) {
    Fail(status);
    return;
  }
  {
    absl::MutexLock lock(&mutex);
    --unloaded;
  }
  ObeyOrders(index);
}

absl::Status RankGroup::State::Connect(Rank& rank) {
  ASSIGN_OR_RETURN(auto comm, rank.endpoint->Connect(rank.addresses, rank.backend.get()));
  absl::MutexLock lock(&mutex);
  rank.comm = std::move(comm);
  return error;  // nobody would abort it any more
}

absl::Status RankGroup::State::LoadRank(int index) {
  Rank& rank = ranks[index];
  if (rank.endpoint != nullptr) RETURN_IF_ERROR(Connect(rank));
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

void RankGroup::State::ObeyOrders(int index) {
  while (const std::shared_ptr<const RankOrder> order = channel.Receive(index)) {
    if (const absl::Status status = Obey(*order, index); !status.ok()) {
      Fail(status);
      return;
    }
  }
}

absl::Status RankGroup::State::Obey(const RankOrder& order, int index) {
  RankExecutor& executor = *ranks[index].executor;
  if (order.plan != nullptr) return executor.Start(*order.plan);
  StepResult result = executor.Finish();
  if (index != 0) return absl::OkStatus();
  absl::MutexLock lock(&mutex);
  results.push_back(std::move(result));
  return absl::OkStatus();
}

void RankGroup::State::Fail(const absl::Status& status) {
  channel.Close();
  absl::MutexLock lock(&mutex);
  // Peers fail with UNAVAILABLE once the group is aborted below; the cause came first.
  if (error.ok()) error = status;
  for (Rank& rank : ranks) {
    if (rank.comm != nullptr) rank.comm->Abort();
  }
}

absl::Status RankGroup::State::AwaitLoaded() {
  absl::MutexLock lock(&mutex);
  mutex.Await(absl::Condition(this, &State::IsLoaded));
  return error;
}

absl::Status RankGroup::State::FinishLoading(const absl::StatusOr<std::string>& digest) {
  RETURN_IF_ERROR(AwaitLoaded());
  ASSIGN_OR_RETURN(weights_digest, digest);
  return checkpoint->CheckAllRead();
}

ProcessReport RankGroup::State::Report() const {
  char host[256] = "";
  gethostname(host, sizeof(host) - 1);
  ProcessReport report;
  report.weights_digest = weights_digest;
  for (const Rank& rank : ranks) {
    report.weight_bytes += rank.runner->weight_bytes();
    report.kv_bytes_per_token += rank.runner->kv_bytes_per_token();
    report.state_bytes_per_slot += rank.runner->state_spec().bytes_per_slot();
    report.ranks.push_back(
        {.device = rank.backend->device().ToString(), .host = host, .pid = getpid()});
  }
  return report;
}

// All processes learn of all: none goes on unless all have loaded, and the same.
absl::Status RankGroup::State::ShareReports(const absl::Status& loaded) {
  ProcessReport mine;
  mine.error = std::string(loaded.message());
  if (loaded.ok()) mine = Report();
  std::vector<std::string> all = {PackReport(mine)};
  if (processes != nullptr) {
    const auto exchanged = processes->Exchange(all[0]);
    RETURN_IF_ERROR(loaded);  // says more than that the others have noticed
    ASSIGN_OR_RETURN(all, exchanged);
  }
  RETURN_IF_ERROR(loaded);
  for (size_t p = 0; p < all.size(); ++p) {
    ASSIGN_OR_RETURN(const ProcessReport report, UnpackReport(all[p]));
    if (!report.error.empty()) {
      return absl::FailedPreconditionError(absl::StrCat("process ", p, ": ", report.error));
    }
    if (report.weights_digest != weights_digest) {
      return absl::FailedPreconditionError(
          absl::StrCat("process ", p, " has weights ", report.weights_digest, ", process ",
                       options.processes.process_index, " has ", weights_digest));
    }
    weight_bytes += report.weight_bytes;
    kv_bytes_per_token += report.kv_bytes_per_token;
    state_bytes_per_slot += report.state_bytes_per_slot;
    places.insert(places.end(), report.ranks.begin(), report.ranks.end());
  }
  return absl::OkStatus();
}

RankGroup::RankGroup() = default;

RankGroup::~RankGroup() = default;

absl::StatusOr<std::unique_ptr<RankGroup>> RankGroup::Create(const RankGroupOptions& options) {
  ASSIGN_OR_RETURN(Checkpoint checkpoint, options.synthetic
                                              ? SyntheticCheckpoint(*options.synthetic)
                                              : Checkpoint::Open(options.model_path));
  ModelConfig config;
  if (options.synthetic) {
    config = *options.synthetic;
  } else {
    ASSIGN_OR_RETURN(config, ModelConfig::Load(checkpoint, options.rope_scaling));
  }
  // Before anything is started: a bad degree is the commonest mistake.
  RETURN_IF_ERROR(MakeSharding(ShardingDimsOf(config), 0, options.tensor_parallel_size).status());
  std::unique_ptr<RankGroup> group(new RankGroup());
  group->state_ = std::make_unique<State>(options);
  State& state = *group->state_;
  state.checkpoint = std::move(checkpoint);
  state.config = std::move(config);
  if (options.processes.num_processes > 1) {
    ASSIGN_OR_RETURN(state.processes,
                     ProcessGroup::Join(options.processes, [&state](const absl::Status& status) {
                       state.Fail(status);
                       if (state.options.on_lost) state.options.on_lost(status);
                     }));
  }
  RETURN_IF_ERROR(state.MakeRanks());
  state.StartThreads();
  const absl::StatusOr<std::string> digest = state.checkpoint->WeightsDigest(1);
  RETURN_IF_ERROR(state.ShareReports(state.FinishLoading(digest)));
  state.checkpoint.reset();
  return group;
}

void RankGroup::Start(std::shared_ptr<const StepPlan> plan) {
  if (state_->processes != nullptr) {
    const absl::Status sent = state_->processes->Broadcast(EncodeStepPlan(*plan));
    if (!sent.ok()) state_->Fail(sent);
  }
  state_->StartHere(std::move(plan));
}

absl::StatusOr<StepResult> RankGroup::Finish(absl::Duration deadline) {
  return state_->FinishHere(deadline);
}

bool RankGroup::runs_ahead() const {
  return state_->options.runs_ahead.value_or(state_->options.device.kind == DeviceKind::kCuda);
}

absl::StatusOr<StepResult> RankGroup::Execute(std::shared_ptr<const StepPlan> plan,
                                              absl::Duration deadline) {
  Start(std::move(plan));
  return Finish(deadline);
}

// After an error the channel is closed, and FinishHere returns it.
void RankGroup::State::StartHere(std::shared_ptr<const StepPlan> plan) {
  unfinished.push_back(plan->step_id);
  channel.Broadcast(std::make_shared<const RankOrder>(RankOrder{std::move(plan)}));
}

absl::StatusOr<StepResult> RankGroup::State::FinishHere(absl::Duration deadline) {
  CHECK(!unfinished.empty());
  const int64_t step_id = unfinished.front();
  unfinished.pop_front();
  channel.Broadcast(std::make_shared<const RankOrder>());
  absl::MutexLock lock(&mutex);
  if (!mutex.AwaitWithTimeout(absl::Condition(this, &State::HasAnswer), deadline)) {
    error = absl::DeadlineExceededError(
        absl::StrCat("step ", step_id, " took longer than ", absl::FormatDuration(deadline)));
  }
  if (!error.ok()) return error;
  StepResult answer = std::move(results.front());
  results.pop_front();
  return answer;
}

absl::Status RankGroup::State::FollowOnce(absl::Duration step_deadline) {
  processes->Vouch(4 * kFollowerTurn);
  ASSIGN_OR_RETURN(const std::optional<std::string> message, processes->Receive(kFollowerTurn));
  if (!message.has_value()) return absl::OkStatus();
  ASSIGN_OR_RETURN(StepPlan plan, DecodeStepPlan(*message));
  processes->Vouch(step_deadline + kFollowerTurn);
  StartHere(std::make_shared<const StepPlan>(std::move(plan)));
  const absl::Status status = FinishHere(step_deadline).status();
  if (status.ok()) return status;
  // Process 0 has its result and may leave before this one has: then there was nothing to lose.
  const auto next = processes->Receive(kFollowerTurn);
  return absl::IsCancelled(next.status()) ? next.status() : status;
}

absl::Status RankGroup::Follow(absl::Duration step_deadline) {
  absl::Status status;
  while (status.ok()) status = state_->FollowOnce(step_deadline);
  return absl::IsCancelled(status) ? absl::OkStatus() : status;
}

const ModelConfig& RankGroup::config() const { return state_->config; }

const std::string& RankGroup::weights_digest() const { return state_->weights_digest; }

int64_t RankGroup::weight_bytes() const { return state_->weight_bytes; }

int64_t RankGroup::kv_bytes_per_token() const { return state_->kv_bytes_per_token; }

int RankGroup::num_state_slots() const { return state_->ranks[0].runner->num_state_slots(); }

int64_t RankGroup::state_bytes_per_slot() const { return state_->state_bytes_per_slot; }

const std::vector<RankPlace>& RankGroup::ranks() const { return state_->places; }

MemoryUse RankGroup::memory() const {
  MemoryUse sum;
  for (const Rank& rank : state_->ranks) sum.Add(rank.runner->memory());
  return sum;
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

}  // namespace krait
