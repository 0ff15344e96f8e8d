#include "worker/engine/engine.h"

#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "common/field_error.h"
#include "common/logging.h"
#include "common/status_macros.h"
#include "worker/engine/engine_thread.h"
#include "worker/engine/mailbox.h"
#include "worker/engine/rank_group_executor.h"
#include "worker/engine/request_checks.h"

namespace krait {

struct Engine::State {
  explicit State(const EngineConfig& config)
      : config(config), mailbox(config.max_running + config.max_waiting) {}

  void RunThread(const MakeExecutor& make_executor);
  absl::Status Start(const MakeExecutor& make_executor);

  // Constant once `started`.
  EngineConfig config;
  std::unique_ptr<Proposer> proposer;  // used by the engine thread only
  const Clock* clock = nullptr;
  EngineObserver* observer = nullptr;
  std::function<void(const absl::Status&)> on_fatal;
  RequestBounds bounds;
  const RankGroup* group = nullptr;
  absl::Status start_status;
  absl::Notification started;

  Mailbox mailbox;
  std::unique_ptr<EngineThread> engine;  // the engine thread's
  std::thread thread;
};

absl::Status Engine::State::Start(const MakeExecutor& make_executor) {
  ASSIGN_OR_RETURN(std::unique_ptr<StepExecutor> executor, make_executor());
  bounds.vocab_size = executor->vocab_size();
  bounds.max_running = config.max_running;
  bounds.max_context_tokens = executor->max_context_tokens();
  if (config.max_context_tokens > 0) {
    bounds.max_context_tokens = std::min(bounds.max_context_tokens, config.max_context_tokens);
  }
  if (auto* ranks = dynamic_cast<RankGroupExecutor*>(executor.get())) group = &ranks->group();
  engine = std::make_unique<EngineThread>(config, std::move(executor), proposer.get(), clock,
                                          observer, &mailbox);
  return engine->WarmUp();
}

void Engine::State::RunThread(const MakeExecutor& make_executor) {
  start_status = Start(make_executor);
  const bool running = start_status.ok();
  started.Notify();
  if (running) {
    const absl::Status status = engine->Run();
    if (!status.ok()) {
      LOG(ERROR) << "engine: a step failed status=" << LogText(status.ToString());
      if (on_fatal) on_fatal(status);
    }
  }
  engine.reset();  // ranks are destroyed by the thread that made them
}

namespace {

absl::Status CheckConfig(const EngineConfig& config) {
  if (config.max_running < 1) {
    return FieldError("max_running", absl::StrCat("must be at least 1, got ", config.max_running));
  }
  if (config.max_waiting < 0) {
    return FieldError("max_waiting", absl::StrCat("must be at least 0, got ", config.max_waiting));
  }
  if (config.max_num_batched_tokens < config.max_running) {
    return FieldError("max_num_batched_tokens",
                      absl::StrCat("must be at least max_running = ", config.max_running, ", got ",
                                   config.max_num_batched_tokens));
  }
  if (config.reserved_output_tokens < 1) {
    return FieldError("reserved_output_tokens",
                      absl::StrCat("must be at least 1, got ", config.reserved_output_tokens));
  }
  if (config.max_draft_tokens < 0) {
    return FieldError("max_draft_tokens",
                      absl::StrCat("must be at least 0, got ", config.max_draft_tokens));
  }
  if (config.group.runner.num_pages < 1) {
    return FieldError("num_pages",
                      absl::StrCat("must be at least 1, got ", config.group.runner.num_pages));
  }
  return absl::OkStatus();
}

}  // namespace

Engine::Engine() = default;

absl::StatusOr<std::unique_ptr<Engine>> Engine::Create(
    const EngineConfig& config, std::unique_ptr<Proposer> proposer, const Clock* clock,
    EngineObserver* observer, std::function<void(const absl::Status&)> on_fatal) {
  RankGroupOptions group = config.group;
  group.runner.max_draft_tokens = config.max_draft_tokens;
  group.runner.num_state_slots =
      config.num_state_slots > 0 ? config.num_state_slots : config.max_running;
  group.runner.max_tokens = config.max_num_batched_tokens;
  group.runner.max_logits =
      config.max_num_batched_tokens;  // every token of a step may be drawn from
  const auto make_executor = [group]() -> absl::StatusOr<std::unique_ptr<StepExecutor>> {
    ASSIGN_OR_RETURN(std::unique_ptr<RankGroup> ranks, RankGroup::Create(group));
    return std::make_unique<RankGroupExecutor>(std::move(ranks));
  };
  return CreateWith(config, make_executor, std::move(proposer), clock, observer,
                    std::move(on_fatal));
}

absl::StatusOr<std::unique_ptr<Engine>> Engine::CreateWith(
    const EngineConfig& config, MakeExecutor make_executor, std::unique_ptr<Proposer> proposer,
    const Clock* clock, EngineObserver* observer,
    std::function<void(const absl::Status&)> on_fatal) {
  RETURN_IF_ERROR(CheckConfig(config));
  std::unique_ptr<Engine> engine(new Engine);
  engine->state_ = std::make_unique<State>(config);
  State& state = *engine->state_;
  state.proposer = std::move(proposer);
  state.clock = clock;
  state.observer = observer;
  state.on_fatal = std::move(on_fatal);
  state.thread = std::thread([&state, make_executor] { state.RunThread(make_executor); });
  state.started.WaitForNotification();
  RETURN_IF_ERROR(state.start_status);
  return engine;
}

Engine::~Engine() {
  state_->mailbox.Close(absl::UnavailableError("the engine has stopped"));
  if (state_->thread.joinable()) state_->thread.join();
}

absl::Status Engine::Submit(GenerationRequest request, std::shared_ptr<TokenSink> sink) {
  request.sampling.end_ids.clear();
  if (request.sampling.min_tokens > 0) request.sampling.end_ids = EndIds(request.stop);
  RETURN_IF_ERROR(CheckRequest(request, state_->bounds));
  const ModelRunnerOptions& runner = state_->config.group.runner;
  RETURN_IF_ERROR(CheckFitsCache({.num_pages = runner.num_pages, .page_size = runner.page_size},
                                 request.num_choices, static_cast<int>(request.prompt.size()),
                                 request.stop.max_tokens));
  return state_->mailbox.Submit(std::move(request), std::move(sink), state_->clock->Now());
}

void Engine::Abort(const std::string& request_id, absl::Status reason) {
  state_->mailbox.Abort(request_id, std::move(reason));
}

void Engine::StopChoice(const std::string& request_id, int choice) {
  state_->mailbox.StopChoice(request_id, choice);
}

void Engine::Pause(const std::string& request_id) { state_->mailbox.SetPaused(request_id, true); }

void Engine::Resume(const std::string& request_id) { state_->mailbox.SetPaused(request_id, false); }

void Engine::Drain() { state_->mailbox.Drain(); }
bool Engine::WaitIdle(absl::Duration timeout) { return state_->mailbox.WaitIdle(timeout); }
EngineLoad Engine::Load() const { return state_->mailbox.Load(); }

const RankGroup& Engine::group() const {
  CHECK(state_->group != nullptr);
  return *state_->group;
}

int Engine::vocab_size() const { return state_->bounds.vocab_size; }
int Engine::max_context_tokens() const { return state_->bounds.max_context_tokens; }

}  // namespace krait
