#include "worker/runner/local_ranks.h"

#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/field_error.h"
#include "common/logging.h"
#include "common/status_macros.h"

namespace krait {

LocalRanks::LocalRanks(const RankGroupOptions& options)
    : options_(options),
      own_(options.own_ranks()),
      channel_(static_cast<int>(own_.size()), 2 * RankExecutor::kMaxStarted),
      ranks_(own_.size()),
      loading_(own_.size(), 0.0),
      unloaded_(static_cast<int>(own_.size())) {}

LocalRanks::~LocalRanks() {
  Fail(absl::CancelledError("the group is being destroyed"));
  for (std::thread& thread : threads_) thread.join();
}

absl::Status LocalRanks::Begin(const ModelConfig& config, const Checkpoint& checkpoint,
                               ProcessGroup* processes) {
  config_ = &config;
  checkpoint_ = &checkpoint;
  RETURN_IF_ERROR(MakeBackends());
  std::vector<Backend*> backends;
  for (const Rank& rank : ranks_) backends.push_back(rank.backend.get());
  ASSIGN_OR_RETURN(connector_, MakeRankConnector(options_, backends, processes));
  for (int i = 0; i < size(); ++i) threads_.emplace_back([this, i] { Run(i); });
  return absl::OkStatus();
}

absl::Status LocalRanks::MakeBackends() {
  ASSIGN_OR_RETURN(const CommKind kind, options_.comm_kind());
  const bool simulated = options_.make_backend != nullptr;
  const int num_devices = simulated ? 0 : CountDevices(options_.device.kind);
  if (kind == CommKind::kNccl && num_devices > 0 && num_devices < size()) {
    return FieldError("tensor_parallel_size",
                      absl::StrCat("NCCL needs a GPU for each of the ", size(),
                                   " ranks of this process, which sees ", num_devices));
  }
  for (int i = 0; i < size(); ++i) {
    const Device device = DeviceOfRank(options_, kind, own_.begin + i, num_devices);
    const int64_t share = OwnedUnits(options_.num_threads, i, size()).size();
    const int num_threads = static_cast<int>(std::max<int64_t>(1, share));
    ASSIGN_OR_RETURN(ranks_[i].backend, simulated ? options_.make_backend(device, num_threads)
                                                  : CreateBackend(device, num_threads));
  }
  return absl::OkStatus();
}

void LocalRanks::Run(int index) {
  pthread_setname_np(pthread_self(), absl::StrCat("krait-rank-", own_.begin + index).c_str());
  if (const absl::Status status = Load(index); !status.ok()) {
    Fail(status);
    return;
  }
  {
    absl::MutexLock lock(&mutex_);
    --unloaded_;
  }
  ObeyOrders(index);
}

absl::Status LocalRanks::Connect(int index) {
  ASSIGN_OR_RETURN(auto comm, connector_->Connect(index));
  Communicator& connecting = *comm;
  {
    absl::MutexLock lock(&mutex_);
    ranks_[index].comm = std::move(comm);
    RETURN_IF_ERROR(error_);  // nobody would abort it any more
  }
  return connecting.Await();
}

absl::Status LocalRanks::Load(int index) {
  RETURN_IF_ERROR(Connect(index));
  Rank& rank = ranks_[index];
  ModelRunnerOptions runner_options = options_.runner;
  runner_options.on_progress = [this, index](double fraction) { ReportProgress(index, fraction); };
  ASSIGN_OR_RETURN(rank.runner, ModelRunner::Create(runner_options, *config_, *checkpoint_,
                                                    rank.backend.get(), rank.comm.get()));
  rank.executor = std::make_unique<RankExecutor>(rank.runner.get());
  return absl::OkStatus();
}

void LocalRanks::ReportProgress(int index, double fraction) {
  if (!options_.runner.on_progress) return;
  absl::MutexLock lock(&mutex_);
  loading_[index] = fraction;
  double sum = 0;
  for (const double loaded : loading_) sum += loaded;
  options_.runner.on_progress(sum / size());
}

void LocalRanks::ObeyOrders(int index) {
  while (const std::shared_ptr<const Order> order = channel_.Receive(index)) {
    if (const absl::Status status = Obey(*order, index); !status.ok()) {
      Fail(status);
      return;
    }
  }
}

absl::Status LocalRanks::Obey(const Order& order, int index) {
  RankExecutor& executor = *ranks_[index].executor;
  if (order.plan != nullptr) return executor.Start(*order.plan);
  StepResult result = executor.Finish();
  if (index != 0) return absl::OkStatus();
  absl::MutexLock lock(&mutex_);
  results_.push_back(std::move(result));
  return absl::OkStatus();
}

void LocalRanks::Fail(const absl::Status& status) {
  channel_.Close();
  absl::MutexLock lock(&mutex_);
  // Peers fail with UNAVAILABLE once the group is aborted below; the cause came first.
  if (error_.ok()) error_ = status;
  for (Rank& rank : ranks_) {
    if (rank.comm != nullptr) rank.comm->Abort();
  }
}

absl::Status LocalRanks::error() const {
  absl::MutexLock lock(&mutex_);
  return error_;
}

absl::Status LocalRanks::AwaitLoaded() {
  absl::MutexLock lock(&mutex_);
  mutex_.Await(absl::Condition(this, &LocalRanks::IsLoaded));
  return error_;
}

ProcessReport LocalRanks::Report(const std::string& weights_digest) const {
  char host[256] = "";
  gethostname(host, sizeof(host) - 1);
  ProcessReport report;
  report.weights_digest = weights_digest;
  for (const Rank& rank : ranks_) {
    report.weight_bytes += rank.runner->weight_bytes();
    report.kv_bytes_per_token += rank.runner->kv_bytes_per_token();
    report.state_bytes_per_slot += rank.runner->state_spec().bytes_per_slot();
    report.ranks.push_back(
        {.device = rank.backend->device().ToString(), .host = host, .pid = getpid()});
  }
  return report;
}

// After an error the channel is closed, and Finish returns it.
void LocalRanks::Start(std::shared_ptr<const StepPlan> plan) {
  unfinished_.push_back(plan->step_id);
  channel_.Broadcast(std::make_shared<const Order>(Order{std::move(plan)}));
}

absl::StatusOr<StepResult> LocalRanks::Finish(absl::Duration deadline) {
  CHECK(!unfinished_.empty());
  const int64_t step_id = unfinished_.front();
  unfinished_.pop_front();
  channel_.Broadcast(std::make_shared<const Order>());
  absl::MutexLock lock(&mutex_);
  if (!mutex_.AwaitWithTimeout(absl::Condition(this, &LocalRanks::HasAnswer), deadline)) {
    error_ = absl::DeadlineExceededError(
        absl::StrCat("step ", step_id, " took longer than ", absl::FormatDuration(deadline)));
  }
  if (!error_.ok()) return error_;
  StepResult answer = std::move(results_.front());
  results_.pop_front();
  return answer;
}

}  // namespace krait
