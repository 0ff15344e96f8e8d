#include "worker/runner/rank_executor.h"

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

// A work item with the sequence it belongs to, for the length of one step.
struct Item {
  const SequenceWork* work = nullptr;
  RankSequence* sequence = nullptr;
  size_t first_token = 0;  // in State::pass_tokens
  int num_logits = 0;      // 0: the chunk stops short of the last known token
};

SequenceLimits LimitsOf(const ModelRunner& runner) {
  return {.vocab_size = runner.vocab_size(),
          .max_positions = runner.max_positions(),
          .page_size = runner.options().page_size,
          .num_pages = runner.options().num_pages,
          .num_state_slots = runner.num_state_slots()};
}

// How many draws count: each one after a draft that equals the draw before it. A row that is not
// finite ends them, as if it and those after it had not been run.
int CountDraws(const SequenceWork& work, absl::Span<const SampledToken> draws) {
  if (!draws[0].finite) return 0;
  int count = 1;
  while (count < static_cast<int>(draws.size()) && draws[count].finite &&
         draws[count - 1].id == work.draft_token_ids[count - 1]) {
    ++count;
  }
  return count;
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
        sampler(runner->backend(), runner->vocab_shard(), runner->comm()->size()) {}

  absl::Status CheckPlan(const StepPlan& plan);
  absl::Status ApplyEndsAndStarts(const StepPlan& plan);
  absl::Status PrepareItems(const StepPlan& plan);
  void AppendPassTokens(const Item& item);
  absl::StatusOr<TensorView> RunPass();
  absl::StatusOr<std::vector<SampledToken>> Draw(const TensorView& logits);
  StepResult Commit(int64_t step_id, std::vector<SampledToken> draws);
  SequenceResult CommitItem(const Item& item, absl::Span<SampledToken> draws);

  ModelRunner* const runner;
  StepAgreement agreement;
  SequenceTable table;
  ShardSampler sampler;
  std::optional<int64_t> last_step_id;
  uint64_t last_tokens_hash = 0;

  // Of the step that runs; kept for their memory.
  std::vector<Item> items;
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
  int num_logits = 0;
  for (const SequenceWork& work : plan.work) {
    ASSIGN_OR_RETURN(RankSequence * sequence, table.Prepare(work, plan.step_id));
    const bool draws =
        sequence->num_computed + work.num_tokens == static_cast<int>(sequence->tokens.size());
    items.push_back({.work = &work,
                     .sequence = sequence,
                     .first_token = pass_tokens.size(),
                     .num_logits = draws ? 1 + static_cast<int>(work.draft_token_ids.size()) : 0});
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

absl::StatusOr<TensorView> RankExecutor::State::RunPass() {
  batch_rows.clear();
  for (const Item& item : items) {
    const size_t num_tokens = item.work->num_tokens + item.work->draft_token_ids.size();
    batch_rows.push_back(
        {.token_ids = absl::MakeConstSpan(pass_tokens).subspan(item.first_token, num_tokens),
         .first_position = item.sequence->num_computed,
         .page_table = item.sequence->page_table,
         .num_logits = item.num_logits,
         .state_slot = item.sequence->state_slot,
         .final_position = item.sequence->num_computed + item.work->num_tokens,
         .state_position = item.sequence->state_position});
  }
  return runner->Forward(batch_rows);
}

absl::StatusOr<std::vector<SampledToken>> RankExecutor::State::Draw(const TensorView& logits) {
  sample_rows.clear();
  for (const Item& item : items) {
    for (int j = 0; j < item.num_logits; ++j) {
      sample_rows.push_back(
          {.params = &item.sequence->sampling,
           .history = item.sequence->tokens,
           .prompt_tokens = item.sequence->prompt_tokens,
           .drafts = absl::MakeConstSpan(item.work->draft_token_ids).subspan(0, j)});
    }
  }
  if (sample_rows.empty()) return std::vector<SampledToken>();
  return sampler.Sample(logits, sample_rows,
                        [this](absl::Span<const std::byte> send, absl::Span<std::byte> recv) {
                          return runner->comm()->AllGather(send, recv);
                        });
}

SequenceResult RankExecutor::State::CommitItem(const Item& item, absl::Span<SampledToken> draws) {
  RankSequence& sequence = *item.sequence;
  SequenceResult result{.id = item.work->id};
  // The pass folded what was known; accepted drafts are still in the rings.
  sequence.state_position = sequence.num_computed + item.work->num_tokens;
  if (draws.empty()) {
    sequence.num_computed += item.work->num_tokens;
    return result;
  }
  const int count = CountDraws(*item.work, draws);
  if (count == 0) {
    sequence.failed = true;
    result.finite = false;
    return result;
  }
  for (SampledToken& draw : draws.subspan(0, count)) {
    sequence.tokens.push_back(draw.id);
    result.token_ids.push_back(draw.id);
    if (sequence.sampling.num_logprobs >= 0) result.logprobs.push_back(std::move(draw.logprobs));
  }
  result.num_accepted = count - 1;
  sequence.num_computed += item.work->num_tokens + result.num_accepted;
  return result;
}

StepResult RankExecutor::State::Commit(int64_t step_id, std::vector<SampledToken> draws) {
  StepResult result{.step_id = step_id};
  size_t next = 0;
  for (const Item& item : items) {
    result.results.push_back(
        CommitItem(item, absl::MakeSpan(draws).subspan(next, item.num_logits)));
    next += item.num_logits;
  }
  result.tokens_hash = HashTokens(result);
  last_tokens_hash = result.tokens_hash;
  return result;
}

RankExecutor::RankExecutor(ModelRunner* runner) : state_(std::make_unique<State>(runner)) {}

RankExecutor::~RankExecutor() = default;

absl::StatusOr<StepResult> RankExecutor::Execute(const StepPlan& plan) {
  RETURN_IF_ERROR(state_->CheckPlan(plan));
  RETURN_IF_ERROR(state_->ApplyEndsAndStarts(plan));
  RETURN_IF_ERROR(state_->PrepareItems(plan));
  if (state_->items.empty()) return state_->Commit(plan.step_id, {});
  const StateTraffic before = state_->runner->state_traffic();
  ASSIGN_OR_RETURN(const TensorView logits, state_->RunPass());
  ASSIGN_OR_RETURN(std::vector<SampledToken> draws, state_->Draw(logits));
  StepResult result = state_->Commit(plan.step_id, std::move(draws));
  result.traffic = state_->runner->state_traffic() - before;
  return result;
}

int RankExecutor::num_sequences() const { return state_->table.size(); }

}  // namespace krait
