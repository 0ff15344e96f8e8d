#include "worker/server/follower.h"

#include "common/logging.h"
#include "common/status_macros.h"
#include "worker/models/model_config.h"
#include "worker/server/group_options.h"
#include "worker/server/memory_plan.h"
#include "worker/server/port_file.h"
#include "worker/weights/checkpoint.h"

namespace krait {

Follower::Follower(const WorkerOptions& options, std::function<void(const absl::Status&)> on_fatal)
    : options_(options),
      on_fatal_(std::move(on_fatal)),
      metrics_({{"model_name", options.model_name}, {"role", "follower"}}),
      memory_(&metrics_) {}

absl::Status Follower::Listen() {
  ASSIGN_OR_RETURN(
      admin_server_,
      AdminServer::Start(
          options_.admin_listen,
          {.metrics = [this] { return metrics_.Serialize(); },
           .live = [] { return absl::OkStatus(); },
           .ready =
               [this] { return ready_ ? absl::OkStatus() : absl::UnavailableError("loading"); }}));
  return WritePortFile(
      options_.port_file,
      {.name = options_.name, .role = options_.role_name(), .admin_port = admin_server_->port()});
}

absl::Status Follower::Load(const std::function<void(double)>& on_progress) {
  RankGroupOptions group;
  {
    ASSIGN_OR_RETURN(const Checkpoint checkpoint, Checkpoint::Open(options_.model_path));
    ASSIGN_OR_RETURN(const ModelConfig model, ModelConfig::Load(checkpoint, options_.rope_scaling));
    ASSIGN_OR_RETURN(const MemoryPlan plan,
                     PlanMemory(options_, checkpoint, model, MemoryLimit(options_)));
    group = MakeRankGroupOptions(options_, plan);
  }
  group.runner.on_progress = on_progress;
  group.on_lost = on_fatal_;
  ASSIGN_OR_RETURN(group_, RankGroup::Create(group));
  memory_.SetTotals(group_->memory());
  ready_ = true;
  LOG(INFO) << "name=" << options_.name << " process=" << options_.process_index
            << " admin=" << admin_server_->address() << " " << group_->memory().ToString()
            << " msg=\"follows\"";
  return absl::OkStatus();
}

absl::Status Follower::Run() { return group_->Follow(options_.step_deadline); }

}  // namespace krait
