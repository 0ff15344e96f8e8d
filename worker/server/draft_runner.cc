#include "worker/server/draft_runner.h"

namespace krait {
namespace {

constexpr absl::Duration kCatchUpSlice = absl::Milliseconds(5);

}  // namespace

DraftRunner::DraftRunner(std::unique_ptr<Proposer> proposer, const CacheManager* cache,
                         int max_sequences, int max_context_tokens, const Clock* clock)
    : proposer_(std::move(proposer)),
      cache_(cache),
      clock_(clock),
      table_(proposer_.get(), max_sequences, max_context_tokens) {
  thread_ = std::thread([this] { Run(); });
}

DraftRunner::~DraftRunner() {
  stopping_ = true;
  queue_.Close();  // wakes the runner
  thread_.join();
}

bool DraftRunner::TryPost(DraftJob&& job) {
  auto shared = std::make_shared<DraftJob>(std::move(job));
  if (queue_.TryPush([this, shared] { Handle(*shared); })) return true;
  job = std::move(*shared);
  return false;
}

bool DraftRunner::TryRelease(const std::string& target, std::vector<int64_t> sequence_ids) {
  return queue_.TryPush([this, target, ids = std::move(sequence_ids)] {
    for (int64_t id : ids) table_.Release(target, id);
  });
}

DraftRunner::Counts DraftRunner::counts() const {
  absl::MutexLock lock(&mutex_);
  return counts_;
}

void DraftRunner::Run() {
  while (!stopping_ || queue_.size() > 0) {
    const bool behind = table_.Behind() != nullptr;
    if (auto command = queue_.Pop(behind ? absl::ZeroDuration() : absl::InfiniteDuration())) {
      (*command)();
    } else if (behind) {
      CatchUp();
    }
    CountCache();
  }
}

void DraftRunner::CountCache() {
  if (cache_ == nullptr) return;
  absl::MutexLock lock(&mutex_);
  counts_.pages_used = cache_->num_pages() - cache_->num_free_pages();
  counts_.state_slots_used = cache_->num_state_slots() - cache_->num_free_state_slots();
}

void DraftRunner::Handle(DraftJob& job) {
  std::vector<DraftJob::Answer> answers;
  for (const DraftJob::Row& row : job.rows) {
    const DraftSequence* sequence = table_.Update(job.target, row.update);
    DraftJob::Answer answer{.sequence_id = row.update.sequence_id};
    if (sequence != nullptr) {
      answer.hash = sequence->hash;
      answer.known_tokens = static_cast<int>(sequence->tokens.size());
    }
    answers.push_back(std::move(answer));
  }
  if (job.propose) Propose(job, answers);
  job.reply(std::move(answers));
}

void DraftRunner::Propose(const DraftJob& job, std::vector<DraftJob::Answer>& answers) {
  const absl::Duration budget = job.deadline - clock_->Now();
  std::vector<ProposalRow> rows;
  std::vector<size_t> asked;  // index into answers
  for (size_t i = 0; i < job.rows.size(); ++i) {
    const DraftJob::Row& row = job.rows[i];
    const DraftSequence* sequence = table_.Find(job.target, row.update.sequence_id);
    // Another history than the target's: it will see `known_tokens` or the hash and tell us again.
    if (sequence == nullptr || answers[i].known_tokens != row.base_position) continue;
    if (sequence->hash != row.base_hash) {
      table_.Release(job.target, row.update.sequence_id);
      answers[i].known_tokens = 0;
      continue;
    }
    rows.push_back({.id = sequence->id,
                    .tokens = sequence->tokens,
                    .hash = sequence->hash,
                    .num_draft_tokens = row.num_draft_tokens});
    asked.push_back(i);
  }
  const bool late = budget <= absl::ZeroDuration();
  int64_t drafts = 0;
  if (!late && !rows.empty()) {
    auto proposals = proposer_->Propose(rows, budget);
    for (size_t i = 0; i < asked.size(); ++i) {
      drafts += static_cast<int64_t>(proposals[i].size());
      answers[asked[i]].drafts = std::move(proposals[i]);
    }
  }
  absl::MutexLock lock(&mutex_);
  counts_.proposals += static_cast<int64_t>(job.rows.size());
  counts_.drafts += drafts;
  if (late) counts_.late += static_cast<int64_t>(job.rows.size());
}

void DraftRunner::CatchUp() {
  DraftSequence* sequence = table_.Behind();
  --sequence->catch_up_calls;
  const ProposalRow row{.id = sequence->id, .tokens = sequence->tokens, .hash = sequence->hash};
  proposer_->Propose(absl::MakeConstSpan(&row, 1), kCatchUpSlice);
}

}  // namespace krait
