#include "worker/runner/rank_group.h"

#include <optional>
#include <utility>

#include "common/logging.h"
#include "common/status_macros.h"
#include "worker/layers/sharding.h"
#include "worker/models/model_registry.h"
#include "worker/models/model_shape.h"
#include "worker/runner/group_report.h"
#include "worker/runner/local_ranks.h"
#include "worker/runner/step_plan_codec.h"
#include "worker/weights/checkpoint.h"

namespace krait {
namespace {

// Between plans a follower says twice in this time that it still turns.
constexpr absl::Duration kFollowerTurn = absl::Milliseconds(500);

}  // namespace

struct RankGroup::State {
  explicit State(const RankGroupOptions& options) : options(options), local(options) {}
  ~State();

  absl::Status OpenModel();
  absl::Status Join();
  absl::Status Load();
  absl::StatusOr<ProcessReport> LoadHere();
  absl::Status FollowOnce(absl::Duration step_deadline);

  // Constant after Create.
  const RankGroupOptions options;
  std::optional<Checkpoint> checkpoint;  // closed after loading
  ModelConfig config;
  std::string weights_digest;
  GroupReport report;

  LocalRanks local;
  // Its threads call local.Fail, so it goes first.
  std::unique_ptr<ProcessGroup> processes;  // null if there is but one
};

RankGroup::State::~State() {
  if (processes != nullptr && processes->leads() && local.error().ok()) processes->Leave();
}

absl::Status RankGroup::State::OpenModel() {
  ASSIGN_OR_RETURN(checkpoint, options.synthetic ? SyntheticCheckpoint(*options.synthetic)
                                                 : Checkpoint::Open(options.model_path));
  if (options.synthetic) {
    config = *options.synthetic;
  } else {
    ASSIGN_OR_RETURN(config, ModelConfig::Load(*checkpoint, options.rope_scaling));
  }
  // Before anything is started: a bad degree is the commonest mistake.
  RETURN_IF_ERROR(options.comm_kind().status());
  return MakeSharding(ShardingDimsOf(config), 0, options.tensor_parallel_size).status();
}

absl::Status RankGroup::State::Join() {
  if (options.processes.num_processes == 1) return absl::OkStatus();
  ASSIGN_OR_RETURN(processes,
                   ProcessGroup::Join(options.processes, [this](const absl::Status& status) {
                     local.Fail(status);
                     if (options.on_lost) options.on_lost(status);
                   }));
  return absl::OkStatus();
}

absl::Status RankGroup::State::Load() {
  RETURN_IF_ERROR(local.Begin(config, *checkpoint, processes.get()));
  ASSIGN_OR_RETURN(report,
                   ShareReports(LoadHere(), options.processes.process_index, processes.get()));
  checkpoint.reset();
  return absl::OkStatus();
}

absl::StatusOr<ProcessReport> RankGroup::State::LoadHere() {
  const absl::StatusOr<std::string> digest = checkpoint->WeightsDigest(1);
  RETURN_IF_ERROR(local.AwaitLoaded());
  ASSIGN_OR_RETURN(weights_digest, digest);
  RETURN_IF_ERROR(checkpoint->CheckAllRead());
  return local.Report(weights_digest);
}

RankGroup::RankGroup() = default;

RankGroup::~RankGroup() = default;

absl::StatusOr<std::unique_ptr<RankGroup>> RankGroup::Create(const RankGroupOptions& options) {
  std::unique_ptr<RankGroup> group(new RankGroup());
  group->state_ = std::make_unique<State>(options);
  RETURN_IF_ERROR(group->state_->OpenModel());
  RETURN_IF_ERROR(group->state_->Join());
  RETURN_IF_ERROR(group->state_->Load());
  return group;
}

void RankGroup::Start(std::shared_ptr<const StepPlan> plan) {
  if (state_->processes != nullptr) {
    const absl::Status sent = state_->processes->Broadcast(EncodeStepPlan(*plan));
    if (!sent.ok()) state_->local.Fail(sent);
  }
  state_->local.Start(std::move(plan));
}

absl::StatusOr<StepResult> RankGroup::Finish(absl::Duration deadline) {
  return state_->local.Finish(deadline);
}

bool RankGroup::runs_ahead() const {
  const RankGroupOptions& options = state_->options;
  return options.runs_ahead.value_or(options.device.kind == DeviceKind::kCuda &&
                                     options.tensor_parallel_size == 1);
}

absl::StatusOr<StepResult> RankGroup::Execute(std::shared_ptr<const StepPlan> plan,
                                              absl::Duration deadline) {
  Start(std::move(plan));
  return Finish(deadline);
}

absl::Status RankGroup::State::FollowOnce(absl::Duration step_deadline) {
  processes->Vouch(4 * kFollowerTurn);
  ASSIGN_OR_RETURN(const std::optional<std::string> message, processes->Receive(kFollowerTurn));
  if (!message.has_value()) return absl::OkStatus();
  ASSIGN_OR_RETURN(StepPlan plan, DecodeStepPlan(*message));
  processes->Vouch(step_deadline + kFollowerTurn);
  local.Start(std::make_shared<const StepPlan>(std::move(plan)));
  const absl::Status status = local.Finish(step_deadline).status();
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

int64_t RankGroup::weight_bytes() const { return state_->report.weight_bytes; }

int64_t RankGroup::kv_bytes_per_token() const { return state_->report.kv_bytes_per_token; }

int RankGroup::num_state_slots() const { return state_->local.runner(0).num_state_slots(); }

int64_t RankGroup::state_bytes_per_slot() const { return state_->report.state_bytes_per_slot; }

const std::vector<RankPlace>& RankGroup::ranks() const { return state_->report.ranks; }

MemoryUse RankGroup::memory() const {
  MemoryUse sum;
  for (int i = 0; i < state_->local.size(); ++i) sum.Add(state_->local.runner(i).memory());
  return sum;
}

StateTraffic RankGroup::state_traffic() const {
  StateTraffic sum;
  for (int i = 0; i < state_->local.size(); ++i) sum += state_->local.runner(i).state_traffic();
  return sum;
}

int64_t RankGroup::num_state_copies() const {
  int64_t copies = 0;
  for (int i = 0; i < state_->local.size(); ++i) {
    copies += state_->local.runner(i).num_state_copies();
  }
  return copies;
}

}  // namespace krait
