#include "worker/runner/rank_executor.h"

#include <array>
#include <deque>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/logging.h"
#include "common/status_macros.h"
#include "worker/runner/plan_hash.h"
#include "worker/runner/sequence_table.h"
#include "worker/runner/step_agreement.h"

namespace krait {
namespace {

// A work item with the sequence it belongs to, while its step is started.
struct Item {
  const SequenceWork* work = nullptr;
  RankSequence* sequence = nullptr;
  size_t first_token = 0;               // in State::pass_tokens
  int first_logits_row = 0;             // of the pass
  int num_logits = 0;                   // 0: the chunk stops short of the last known token
  std::optional<DrawChoice> on_device;  // how its rows are drawn from there, if they are

  SampleRow Row(int j) const;  // of its num_logits
};

// Draws that lie on the device until their step is finished.
struct UnreadDraws {
  size_t result = 0;  // of Started::result
  int first_row = 0;  // of the pass's logits
  int num_rows = 0;
  int num_tokens = 0;           // of the work
  std::vector<TokenId> drafts;  // of the work
};

// A step that has been started.
struct Started {
  StepResult result;  // as far as it is known
  std::vector<UnreadDraws> unread;
  int num_rows = 0;          // of logits
  LateRead* read = nullptr;  // of them, what was drawn on the device; null: nothing was
};

// Whether rejection sampling judges the work's drafts; greedy or not, a draft that is the argmax is
// accepted, and that is simpler to see.
bool Verifies(const SequenceWork& work, const RankSequence& sequence) {
  return !work.draft_masses.empty() && !sequence.sampling.greedy();
}

SampleRow Item::Row(int j) const {
  const absl::Span<const TokenId> drafts = work->draft_token_ids;
  SampleRow row{.params = &sequence->sampling,
                .history = sequence->tokens,
                .prompt_tokens = sequence->prompt_tokens,
                .drafts = drafts.subspan(0, j),
                .logits_row = first_logits_row + j};
  if (!Verifies(*work, *sequence)) return row;
  row.rule = DrawRule::kVerify;
  if (j == static_cast<int>(drafts.size())) return row;
  row.draft = drafts[j];
  row.draft_masses = work->draft_masses[j];
  return row;
}

SequenceLimits LimitsOf(const ModelRunner& runner) {
  return {.vocab_size = runner.vocab_size(),
          .max_positions = runner.max_positions(),
          .page_size = runner.options().page_size,
          .num_pages = runner.options().num_pages,
          .num_state_slots = runner.num_state_slots()};
}

// How many draws count: each one after a draft that equals the draw before it. A row that draws
// nothing, for it is not finite, ends them, as if it and those after it had not been run.
int CountDraws(absl::Span<const TokenId> drafts, absl::Span<const SampledToken> draws) {
  if (!draws[0].finite) return 0;
  int count = 1;
  while (count < static_cast<int>(draws.size()) && draws[count].id != kNoToken &&
         draws[count - 1].id == drafts[count - 1]) {
    ++count;
  }
  return count;
}

// What a work and its draws come to. The pass folded what was known; accepted drafts are still in
// the rings.
void CommitDraws(int num_tokens, absl::Span<const TokenId> drafts, absl::Span<SampledToken> draws,
                 RankSequence& sequence, SequenceResult& result) {
  sequence.state_position = sequence.num_computed + num_tokens;
  if (draws.empty()) {
    sequence.num_computed += num_tokens;
    return;
  }
  const int count = CountDraws(drafts, draws);
  if (count == 0) {
    sequence.failed = true;
    result.finite = false;
    return;
  }
  for (SampledToken& draw : draws.subspan(0, count)) {
    sequence.tokens.push_back(draw.id);
    result.token_ids.push_back(draw.id);
    if (sequence.sampling.num_logprobs >= 0) result.logprobs.push_back(std::move(draw.logprobs));
  }
  result.num_accepted = count - 1;
  sequence.num_computed += num_tokens + result.num_accepted;
}

uint64_t HashTokens(const StepResult& result) {
  PlanHasher hasher;
  hasher.Add(result.step_id);
  for (const SequenceResult& row : result.results) {
    hasher.Add(row.id).Add(int64_t{row.finite}).AddList(row.token_ids);
  }
  return hasher.hash();
}

}  // namespace

struct RankExecutor::State {
  explicit State(ModelRunner* runner)
      : runner(runner),
        agreement(runner->comm()),
        table(LimitsOf(*runner)),
        sampler(runner->backend(), runner->vocab_shard(), runner->comm()->size()) {
    const int64_t capacity = runner->options().max_logits * int64_t{sizeof(TokenId)};
    for (auto& read : reads) read = runner->backend()->MakeLateRead(capacity);
  }

  absl::Status CheckPlan(const StepPlan& plan);
  absl::Status ApplyEndsAndStarts(const StepPlan& plan);
  absl::Status PrepareItems(const StepPlan& plan);
  void AppendPassTokens(const Item& item);
  std::vector<DrawChoice> Choices() const;
  absl::Status Run(Started& step);
  absl::StatusOr<TensorView> RunPass(absl::Span<const DrawChoice> choices);
  absl::StatusOr<std::vector<SampledToken>> DrawOnHost(const TensorView& logits);
  void CommitKnown(std::vector<SampledToken> drawn_on_host, Started& step);
  void LeavePending(const Item& item, int64_t step_id);
  void CommitUnread(const UnreadDraws& unread, absl::Span<const TokenId> tokens, Started& step);
  void SettlePending(TokenId drawn, int64_t step_id, SequenceResult& result);

  ModelRunner* const runner;
  StepAgreement agreement;
  SequenceTable table;
  ShardSampler sampler;
  std::array<std::unique_ptr<LateRead>, kMaxStarted> reads;  // by step id
  std::optional<int64_t> last_step_id;
  uint64_t last_tokens_hash = 0;
  std::deque<Started> started;  // oldest first

  // Of the step that is being started; kept for their memory.
  std::vector<Item> items;
  int num_logits = 0;
  std::vector<TokenId> pass_tokens;
  std::vector<BatchRow> batch_rows;
  std::vector<SampleRow> sample_rows;
};

absl::Status RankExecutor::State::CheckPlan(const StepPlan& plan) {
  RETURN_IF_ERROR(agreement.Check({.step_id = plan.step_id,
                                   .plan_hash = plan.Hash(),
                                   .previous_tokens_hash = last_tokens_hash}));
  if (last_step_id.has_value() && plan.step_id != *last_step_id + 1) {
    return absl::InternalError(
        absl::StrCat("plan: step id ", plan.step_id, " after ", *last_step_id));
  }
  last_step_id = plan.step_id;
  if (plan.num_tokens() > runner->options().max_tokens) {
    return absl::InternalError(absl::StrCat("plan: ", plan.num_tokens(), " tokens, at most ",
                                            runner->options().max_tokens));
  }
  return absl::OkStatus();
}

absl::Status RankExecutor::State::ApplyEndsAndStarts(const StepPlan& plan) {
  const auto poison = [this](const FreedCache& freed) {
    if (!kInvariantsEnabled) return;
    runner->PoisonPages(freed.pages);
    runner->PoisonState(freed.state_slot);
  };
  for (const SequenceId id : plan.preempts) {
    ASSIGN_OR_RETURN(const FreedCache freed, table.Preempt(id));
    poison(freed);
  }
  for (const SequenceId id : plan.ends) {
    ASSIGN_OR_RETURN(const FreedCache freed, table.End(id));
    poison(freed);
  }
  for (const SequenceStart& start : plan.starts) RETURN_IF_ERROR(table.Start(start));
  return absl::OkStatus();
}

absl::Status RankExecutor::State::PrepareItems(const StepPlan& plan) {
  items.clear();
  pass_tokens.clear();
  num_logits = 0;
  for (const SequenceWork& work : plan.work) {
    ASSIGN_OR_RETURN(RankSequence * sequence, table.Prepare(work, plan.step_id));
    if (!work.draft_masses.empty() && work.draft_masses.size() != work.draft_token_ids.size()) {
      return absl::InternalError(absl::StrCat("plan: sequence ", work.id, " has ",
                                              work.draft_token_ids.size(), " drafts, ",
                                              work.draft_masses.size(), " with masses"));
    }
    const bool draws =
        sequence->num_computed + work.num_tokens == static_cast<int>(sequence->tokens.size());
    items.push_back({.work = &work,
                     .sequence = sequence,
                     .first_token = pass_tokens.size(),
                     .first_logits_row = num_logits,
                     .num_logits = draws ? 1 + static_cast<int>(work.draft_token_ids.size()) : 0,
                     .on_device = Verifies(work, *sequence)
                                      ? std::nullopt
                                      : runner->DrawChoiceFor(sequence->sampling)});
    num_logits += items.back().num_logits;
    AppendPassTokens(items.back());
  }
  if (num_logits <= runner->options().max_logits) return absl::OkStatus();
  return absl::InternalError(absl::StrCat("plan: ", num_logits, " rows to draw from, at most ",
                                          runner->options().max_logits));
}

void RankExecutor::State::AppendPassTokens(const Item& item) {
  const auto first = item.sequence->tokens.begin() + item.sequence->num_computed;
  pass_tokens.insert(pass_tokens.end(), first, first + item.work->num_tokens);
  pass_tokens.insert(pass_tokens.end(), item.work->draft_token_ids.begin(),
                     item.work->draft_token_ids.end());
}

absl::StatusOr<TensorView> RankExecutor::State::RunPass(absl::Span<const DrawChoice> choices) {
  batch_rows.clear();
  for (const Item& item : items) {
    const RankSequence& sequence = *item.sequence;
    const size_t num_tokens = item.work->num_tokens + item.work->draft_token_ids.size();
    const bool pending = sequence.pending_draw >= 0 && item.num_logits > 0;
    batch_rows.push_back(
        {.token_ids = absl::MakeConstSpan(pass_tokens).subspan(item.first_token, num_tokens),
         .first_position = sequence.num_computed,
         .page_table = sequence.page_table,
         .num_logits = item.num_logits,
         .state_slot = sequence.state_slot,
         .final_position = sequence.num_computed + item.work->num_tokens,
         .state_position = sequence.state_position,
         .pending_draw = pending ? sequence.pending_draw : -1});
  }
  return runner->Forward(batch_rows, choices);
}

// One a row of logits; none if the device draws nothing.
std::vector<DrawChoice> RankExecutor::State::Choices() const {
  std::vector<DrawChoice> choices;
  bool any = false;
  for (const Item& item : items) {
    choices.insert(choices.end(), item.num_logits, item.on_device.value_or(DrawChoice{.drawn = 0}));
    any |= item.on_device.has_value() && item.num_logits > 0;
  }
  if (!any) choices.clear();
  return choices;
}

// The draws of the items that are not drawn on the device, in order.
absl::StatusOr<std::vector<SampledToken>> RankExecutor::State::DrawOnHost(
    const TensorView& logits) {
  sample_rows.clear();
  for (const Item& item : items) {
    for (int j = 0; j < item.num_logits && !item.on_device; ++j) {
      sample_rows.push_back(item.Row(j));
    }
  }
  if (sample_rows.empty()) return std::vector<SampledToken>();
  return sampler.Sample(logits, sample_rows,
                        [this](absl::Span<const std::byte> send, absl::Span<std::byte> recv) {
                          return runner->comm()->AllGather(send, recv);
                        });
}

// What need not be read first. A draw on the device leaves a gap; drafts, whose fate it decides,
// leave the whole item for later.
void RankExecutor::State::CommitKnown(std::vector<SampledToken> drawn_on_host, Started& step) {
  size_t next = 0;
  for (const Item& item : items) {
    SequenceResult& result = step.result.results.emplace_back(SequenceResult{.id = item.work->id});
    const int num_draws = item.on_device ? 0 : item.num_logits;
    const auto draws = absl::MakeSpan(drawn_on_host).subspan(next, num_draws);
    next += num_draws;
    const bool unread = item.on_device.has_value() && item.num_logits > 0;
    if (!unread) {
      CommitDraws(item.work->num_tokens, item.work->draft_token_ids, draws, *item.sequence, result);
      continue;
    }
    step.unread.push_back({.result = step.result.results.size() - 1,
                           .first_row = item.first_logits_row,
                           .num_rows = item.num_logits,
                           .num_tokens = item.work->num_tokens,
                           .drafts = item.work->draft_token_ids});
    if (item.work->draft_token_ids.empty()) LeavePending(item, step.result.step_id);
  }
}

void RankExecutor::State::LeavePending(const Item& item, int64_t step_id) {
  RankSequence& sequence = *item.sequence;
  sequence.num_computed += item.work->num_tokens;
  sequence.state_position = sequence.num_computed;
  // Another gap than the last one's, which is filled by its place.
  sequence.tokens.push_back(kNoToken);
  sequence.pending_draw = item.first_logits_row;
  sequence.pending_step = step_id;
}

// The sequence may have ended since, or lost its pages.
void RankExecutor::State::SettlePending(TokenId drawn, int64_t step_id, SequenceResult& result) {
  result.finite = drawn != kNoToken;
  if (result.finite) result.token_ids.push_back(drawn);
  RankSequence* sequence = table.Find(result.id);
  if (sequence == nullptr) return;
  sequence->failed |= !result.finite;
  const bool last = sequence->pending_step == step_id;
  sequence->tokens[sequence->tokens.size() - (last ? 1 : 2)] = drawn;
  if (last) sequence->pending_draw = -1;
}

void RankExecutor::State::CommitUnread(const UnreadDraws& unread, absl::Span<const TokenId> tokens,
                                       Started& step) {
  SequenceResult& result = step.result.results[unread.result];
  if (unread.drafts.empty()) {
    SettlePending(tokens[unread.first_row], step.result.step_id, result);
    return;
  }
  std::vector<SampledToken> draws;
  for (const TokenId id : tokens.subspan(unread.first_row, unread.num_rows)) {
    draws.push_back({.id = id, .finite = id != kNoToken});
  }
  RankSequence* sequence = table.Find(result.id);
  CHECK(sequence != nullptr) << "sequence=" << result.id << " ended before its drafts were judged";
  CommitDraws(unread.num_tokens, unread.drafts, absl::MakeSpan(draws), *sequence, result);
}

absl::Status RankExecutor::State::Run(Started& step) {
  const StateTraffic before = runner->state_traffic();
  const std::vector<DrawChoice> choices = Choices();
  ASSIGN_OR_RETURN(const TensorView logits, RunPass(choices));
  step.num_rows = num_logits;
  if (!choices.empty()) {
    step.read = reads[step.result.step_id % kMaxStarted].get();
    step.read->Start(runner->drawn().Rows(0, num_logits));
  }
  ASSIGN_OR_RETURN(std::vector<SampledToken> draws, DrawOnHost(logits));
  CommitKnown(std::move(draws), step);
  step.result.traffic = runner->state_traffic() - before;
  return absl::OkStatus();
}

RankExecutor::RankExecutor(ModelRunner* runner) : state_(std::make_unique<State>(runner)) {}

RankExecutor::~RankExecutor() = default;

absl::Status RankExecutor::Start(const StepPlan& plan) {
  CHECK_LT(static_cast<int>(state_->started.size()), kMaxStarted);
  RETURN_IF_ERROR(state_->CheckPlan(plan));
  RETURN_IF_ERROR(state_->ApplyEndsAndStarts(plan));
  RETURN_IF_ERROR(state_->PrepareItems(plan));
  Started step{.result = {.step_id = plan.step_id}};
  if (!state_->items.empty()) RETURN_IF_ERROR(state_->Run(step));
  state_->started.push_back(std::move(step));
  return absl::OkStatus();
}

StepResult RankExecutor::Finish() {
  CHECK(!state_->started.empty());
  Started step = std::move(state_->started.front());
  state_->started.pop_front();
  std::vector<TokenId> tokens(step.num_rows, kNoToken);
  if (step.read != nullptr) step.read->Finish(tokens.data());
  for (const UnreadDraws& unread : step.unread) state_->CommitUnread(unread, tokens, step);
  step.result.tokens_hash = HashTokens(step.result);
  state_->last_tokens_hash = step.result.tokens_hash;
  return std::move(step.result);
}

absl::StatusOr<StepResult> RankExecutor::Execute(const StepPlan& plan) {
  RETURN_IF_ERROR(Start(plan));
  return Finish();
}

int RankExecutor::num_sequences() const { return state_->table.size(); }

}  // namespace krait
