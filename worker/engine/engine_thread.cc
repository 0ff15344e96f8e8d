#include "worker/engine/engine_thread.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/logging.h"
#include "common/status_macros.h"

namespace krait {
namespace {

// Never used by a request.
constexpr SequenceId kWarmUpSequence = 0;
// While there are requests and none of them runs, deadlines are looked at this often.
constexpr absl::Duration kPausedTick = absl::Milliseconds(20);

SchedulerConfig SchedulerConfigOf(const EngineConfig& config, const StepExecutor& executor) {
  return {.pool = {.cache = {.num_pages = config.group.runner.num_pages,
                             .page_size = config.group.runner.page_size,
                             .num_state_slots = executor.num_state_slots()},
                   .max_running = config.max_running,
                   .reserved_output_tokens = config.reserved_output_tokens},
          .max_num_batched_tokens = config.max_num_batched_tokens};
}

bool HasDrafts(const StepPlan& plan) {
  return std::any_of(plan.work.begin(), plan.work.end(),
                     [](const SequenceWork& work) { return !work.draft_token_ids.empty(); });
}

SpeculationConfig SpeculationConfigOf(const EngineConfig& config) {
  return {.fixed_draft_tokens = config.fixed_draft_tokens,
          .proposal_deadline = config.proposal_deadline,
          .step_deadline = config.step_deadline};
}

}  // namespace

EngineThread::EngineThread(const EngineConfig& config, std::unique_ptr<StepExecutor> executor,
                           Proposer* proposer, const Clock* clock, EngineObserver* observer,
                           Mailbox* mailbox)
    : config_(config),
      executor_(std::move(executor)),
      proposer_(proposer),
      clock_(clock),
      observer_(observer),
      mailbox_(mailbox),
      scheduler_(SchedulerConfigOf(config, *executor_)),
      decoder_(SpeculationConfigOf(config), executor_.get(), proposer, clock) {}

absl::Status EngineThread::WarmUp() {
  scheduler_.Add(std::make_unique<Sequence>(kWarmUpSequence, std::vector<TokenId>{0},
                                            SamplingParams{.temperature = 0}, StopParams{}));
  auto step = scheduler_.Schedule(
      [](absl::Span<const DraftLimit> limits) { return std::vector<int>(limits.size(), 0); });
  CHECK(step.has_value());
  const auto plan = std::make_shared<const StepPlan>(std::move(step->plan));
  executor_->Start(plan);
  ASSIGN_OR_RETURN(const StepResult result, executor_->Finish(config_.step_deadline));
  const std::vector<Progress> progress = scheduler_.Apply(*plan, result);
  if (!progress[0].finite) return absl::InternalError("warm-up: logits are not finite");
  PublishLoad();
  return absl::OkStatus();
}

absl::Status EngineThread::Run() {
  absl::StatusOr<bool> stepped = true;
  while (stepped.ok()) {
    Mailbox::Commands commands;
    const bool idle = streams_.empty() && flights_.empty();
    const absl::Duration patience = idle       ? absl::InfiniteDuration()
                                    : *stepped ? absl::ZeroDuration()
                                               : kPausedTick;
    const bool open = mailbox_->Take(patience, commands);
    Take(std::move(commands));
    if (!open) break;
    EndExpired();
    EndSlowReaders();
    stepped = RunStep();
    PublishLoad();
  }
  const absl::Status stopped = absl::UnavailableError("the engine has stopped");
  mailbox_->Close(stopped);
  Mailbox::Commands late;  // came between the last Take and Close
  mailbox_->Take(absl::ZeroDuration(), late);
  Take(std::move(late));
  FinishAll(stopped);
  return stepped.status();
}

void EngineThread::Take(Mailbox::Commands commands) {
  for (Submission& submission : commands.submissions) Start(std::move(submission));
  for (const auto& [id, choice] : commands.stops) StopChoice(id, choice);
  for (const auto& [id, paused] : commands.paused) SetPaused(id, paused);
  for (const auto& [id, reason] : commands.aborts) Finish(id, reason);
}

void EngineThread::StopChoice(SequenceId request, int choice) {
  const auto it = streams_.find(request);
  if (it == streams_.end() || choice < 0 || choice >= it->second->num_choices()) return;
  if (!scheduler_.End(request + choice)) return;
  decoder_.Release(request + choice);
  it->second->StopChoice();
  if (it->second->complete()) Finish(request, absl::OkStatus());
}

void EngineThread::SetPaused(SequenceId request, bool paused) {
  const auto it = streams_.find(request);
  if (it == streams_.end()) return;
  Stream& stream = *it->second;
  if (paused) {
    stream.Pause(clock_->Now());
  } else {
    stream.Resume();
  }
  for (SequenceId id = request; id < request + stream.num_choices(); ++id) {
    paused ? scheduler_.Pause(id) : scheduler_.Resume(id);
  }
}

std::unique_ptr<Sequence> EngineThread::MakeSequence(const Submission& submission,
                                                     int choice) const {
  const GenerationRequest& request = submission.request;
  SamplingParams sampling = request.sampling;
  sampling.choice += static_cast<uint32_t>(choice);
  auto sequence = std::make_unique<Sequence>(submission.id + choice, request.prompt,
                                             std::move(sampling), request.stop);
  sequence->request = submission.id;
  sequence->choice = choice;
  sequence->deadline = request.deadline;
  if (proposer_ != nullptr) {
    sequence->max_draft_tokens = std::min(
        config_.max_draft_tokens, request.max_draft_tokens.value_or(config_.max_draft_tokens));
  }
  return sequence;
}

void EngineThread::Start(Submission submission) {
  const GenerationRequest& request = submission.request;
  for (int choice = 0; choice < request.num_choices; ++choice) {
    scheduler_.Add(MakeSequence(submission, choice));
  }
  streams_.emplace(
      submission.id,
      std::make_unique<Stream>(request.request_id, std::move(submission.sink), request.num_choices,
                               static_cast<int>(request.prompt.size()), submission.submitted));
}

void EngineThread::EndExpired() {
  for (SequenceId request : scheduler_.Expired(clock_->Now())) {
    Finish(request, absl::DeadlineExceededError("the request's deadline has passed"));
  }
}

void EngineThread::EndSlowReaders() {
  const absl::Duration limit = config_.slow_reader_timeout;
  const absl::Duration now = clock_->Now();
  std::vector<SequenceId> slow;
  for (const auto& [request, stream] : streams_) {
    if (now - stream->paused_since() >= limit) slow.push_back(request);
  }
  for (SequenceId request : slow) {
    Finish(request, absl::ResourceExhaustedError(
                        absl::StrCat("slow_reader_timeout_ms: nothing was read for ",
                                     absl::ToInt64Milliseconds(limit), " ms")));
  }
}

StartedStep EngineThread::Decode(ScheduledStep& step) {
  for (SequenceId id : step.changes.admitted) {
    const Sequence* sequence = scheduler_.Find(id);
    if (sequence->max_draft_tokens > 0) decoder_.Begin(id, sequence->tokens, sequence->sampling);
  }
  std::vector<ProposalRow> rows;
  for (size_t i = 0; i < step.plan.work.size(); ++i) {
    if (step.num_draft_tokens[i] == 0) continue;
    const Sequence* sequence = scheduler_.Find(step.plan.work[i].id);
    rows.push_back({sequence->id, sequence->tokens, sequence->hash, step.num_draft_tokens[i]});
  }
  return decoder_.Start(std::move(step.plan), rows);
}

absl::StatusOr<bool> EngineThread::RunStep() {
  if (!flights_.empty()) ForeseeDrafts();
  RETURN_IF_ERROR(FinishDueSteps());
  if (StartStep()) {
    RETURN_IF_ERROR(FinishDueSteps());
    return true;
  }
  if (flights_.empty()) return false;
  RETURN_IF_ERROR(FinishStep());
  return true;
}

// The next step's drafts follow from what the last step drew, and so does the fate of its own.
bool EngineThread::MayRunAhead() const {
  const bool drafts_follow = foreseen_.has_value() && !foreseen_->empty();
  return executor_->runs_ahead() && !drafts_follow && !HasDrafts(*flights_.back().step.plan) &&
         scheduler_.DrawsOnDevices();
}

// The policy is asked once a step.
void EngineThread::ForeseeDrafts() {
  const std::vector<DraftLimit> limits = scheduler_.DraftLimits();
  const std::vector<int> chosen = decoder_.ChooseDrafts(limits);
  foreseen_.emplace();
  for (size_t i = 0; i < limits.size(); ++i) {
    if (chosen[i] > 0) (*foreseen_)[limits[i].id] = chosen[i];
  }
}

// Those that have joined since they were foreseen have none.
std::vector<int> EngineThread::ChooseDrafts(absl::Span<const DraftLimit> limits) {
  if (!foreseen_.has_value()) return decoder_.ChooseDrafts(limits);
  std::vector<int> chosen;
  for (const auto& [id, most] : limits) {
    const auto it = foreseen_->find(id);
    chosen.push_back(it == foreseen_->end() ? 0 : std::min(it->second, most));
  }
  return chosen;
}

absl::Status EngineThread::FinishDueSteps() {
  while (!flights_.empty() && (flights_.size() > 1 || !MayRunAhead())) {
    RETURN_IF_ERROR(FinishStep());
  }
  return absl::OkStatus();
}

bool EngineThread::StartStep() {
  Flight flight{.start = clock_->Now()};
  std::optional<ScheduledStep> step = scheduler_.Schedule(
      [this](absl::Span<const DraftLimit> limits) { return ChooseDrafts(limits); });
  foreseen_.reset();
  if (!step.has_value()) return false;
  const absl::Duration scheduled = clock_->Now();
  flight.step = Decode(*step);
  if (!HasDrafts(*flight.step.plan)) scheduler_.Assume(*flight.step.plan);
  flight.stats = {.scheduling = scheduled - flight.start,
                  .draft_wait = flight.step.draft_wait,
                  .prefill_tokens = step->prefill_tokens,
                  .recomputed_tokens = step->recomputed_tokens,
                  .prefill_sequences = step->prefill_sequences,
                  .preemptions = static_cast<int>(step->changes.preempted.size()),
                  .ran_ahead = !flights_.empty()};
  flight.handed_over = scheduled + flight.step.draft_wait;
  flights_.push_back(std::move(flight));
  return true;
}

absl::Status EngineThread::FinishStep() {
  ASSIGN_OR_RETURN(const DecodedStep decoded, decoder_.Finish());
  const Flight flight = std::move(flights_.front());
  flights_.pop_front();
  const absl::Duration computed = clock_->Now();
  StepStats stats = flight.stats;
  stats.model = computed - std::max(flight.handed_over, last_finish_);
  stats.state_traffic = decoded.result.traffic;
  stats.proposals = decoded.proposals;
  stats.speculation_disabled_reason = decoder_.disabled_reason();
  Deliver(scheduler_.Apply(*decoded.plan, decoded.result), stats);
  const absl::Duration end = clock_->Now();
  stats.duration = end - std::max(flight.start, last_finish_);
  stats.delivery = end - computed;
  last_finish_ = end;
  observer_->OnStep(stats);
  return absl::OkStatus();
}

void EngineThread::Deliver(std::vector<Progress> progress, StepStats& stats) {
  for (Progress& one : progress) {
    const auto it = streams_.find(one.request);
    if (it == streams_.end()) continue;  // another choice's fault has ended it in this very step
    Stream& stream = *it->second;
    Measure(one, stream, stats);
    const SequenceId id = one.id, request = one.request;
    const bool finite = one.finite;
    const bool stopped = one.stop != StopCause::kNone;
    stream.Send(std::move(one));
    if (!finite) {
      observer_->OnNonFinite();
      Finish(request, absl::InternalError("non-finite logits"));
    } else if (stream.complete()) {
      Finish(request, absl::OkStatus());
    } else if (stopped) {
      decoder_.Release(id);
    }
  }
}

void EngineThread::Measure(const Progress& progress, Stream& stream, StepStats& stats) {
  stats.generated_tokens += static_cast<int>(progress.token_ids.size());
  stats.draft_tokens += progress.num_drafts;
  stats.accepted_tokens += progress.num_accepted;
  for (int i = 0; i < std::min(progress.num_accepted + 1, progress.num_drafts); ++i) {
    observer_->OnAccepted(i, i < progress.num_accepted);
  }
  if (progress.token_ids.empty()) return;
  ++stats.decode_rows;
  ++(progress.num_drafts > 0 ? stats.speculating_sequences : stats.plain_sequences);
  const absl::Duration now = clock_->Now();
  absl::Duration& last_sent = stream.last_sent(progress.choice);
  if (stream.num_sent() == 0) {
    observer_->OnFirstToken(now - stream.submitted());
  } else if (last_sent != absl::InfiniteDuration()) {
    observer_->OnInterToken(now - last_sent);
  }
  last_sent = now;
}

void EngineThread::Finish(SequenceId request, const absl::Status& status) {
  const auto it = streams_.find(request);
  if (it == streams_.end()) return;
  const std::unique_ptr<Stream> stream = std::move(it->second);
  streams_.erase(it);
  for (SequenceId id = request; id < request + stream->num_choices(); ++id) {
    scheduler_.End(id);
    decoder_.Release(id);
  }
  mailbox_->BeginEnd(stream->request_id());
  stream->End(status);
  mailbox_->Forget(stream->request_id());
  observer_->OnFinished(status, stream->finish_reason(), stream->prompt_tokens(),
                        stream->num_sent(), clock_->Now() - stream->submitted());
  PublishLoad();
  mailbox_->Ended(stream->num_choices());
}

void EngineThread::FinishAll(const absl::Status& status) {
  while (!streams_.empty()) Finish(streams_.begin()->first, status);
}

void EngineThread::PublishLoad() {
  const CacheManager& cache = scheduler_.cache();
  mailbox_->SetLoad(
      {.running = scheduler_.num_running(),
       .waiting = scheduler_.num_waiting(),
       .paused = scheduler_.num_paused(),
       .max_running = config_.max_running,
       .max_waiting = config_.max_waiting,
       .pages_used = cache.num_pages() - cache.num_free_pages(),
       .pages_total = cache.num_pages(),
       .state_slots_used = cache.num_state_slots() - cache.num_free_state_slots(),
       .queued_tokens = scheduler_.num_queued_tokens(),
       .draft_connected = proposer_ != nullptr && proposer_->disabled_reason().empty()});
}

}  // namespace krait
