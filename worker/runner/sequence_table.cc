#include "worker/runner/sequence_table.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace krait {
namespace {

template <typename... Parts>
absl::Status Contradiction(SequenceId id, const Parts&... parts) {
  return absl::InternalError(absl::StrCat("plan: sequence ", id, " ", parts...));
}

}  // namespace

absl::Status SequenceTable::CheckTokens(SequenceId id, const std::vector<TokenId>& tokens) const {
  for (const TokenId token : tokens) {
    if (token < 0 || token >= limits_.vocab_size) {
      return Contradiction(id, "names token ", token, " of a vocabulary of ", limits_.vocab_size);
    }
  }
  return absl::OkStatus();
}

absl::Status SequenceTable::Start(const SequenceStart& start) {
  if (start.prompt.empty()) return Contradiction(start.id, "starts without a prompt");
  RETURN_IF_ERROR(CheckTokens(start.id, start.prompt));
  auto sequence = std::make_unique<RankSequence>();
  sequence->tokens = start.prompt;
  sequence->prompt_tokens = static_cast<int>(start.prompt.size());
  sequence->sampling = start.sampling;
  if (!sequences_.emplace(start.id, std::move(sequence)).second) {
    return Contradiction(start.id, "starts twice");
  }
  return absl::OkStatus();
}

absl::StatusOr<FreedCache> SequenceTable::Preempt(SequenceId id) {
  const auto it = sequences_.find(id);
  if (it == sequences_.end()) return Contradiction(id, "is preempted but is unknown");
  RankSequence& sequence = *it->second;
  sequence.num_computed = sequence.state_position = 0;
  return FreedCache{std::exchange(sequence.page_table, {}),
                    std::exchange(sequence.state_slot, kNullSlot)};
}

absl::StatusOr<FreedCache> SequenceTable::End(SequenceId id) {
  const auto it = sequences_.find(id);
  if (it == sequences_.end()) return Contradiction(id, "ends but is unknown");
  FreedCache freed{std::move(it->second->page_table), it->second->state_slot};
  sequences_.erase(it);
  return freed;
}

absl::StatusOr<RankSequence*> SequenceTable::Prepare(const SequenceWork& work, int64_t step_id) {
  const auto it = sequences_.find(work.id);
  if (it == sequences_.end()) return Contradiction(work.id, "has work but is unknown");
  RankSequence& sequence = *it->second;
  RETURN_IF_ERROR(CheckWork(sequence, work, step_id));
  sequence.page_table.insert(sequence.page_table.end(), work.new_pages.begin(),
                             work.new_pages.end());
  if (work.state_slot != kNullSlot) sequence.state_slot = work.state_slot;
  sequence.last_step = step_id;
  return &sequence;
}

RankSequence* SequenceTable::Find(SequenceId id) const {
  const auto it = sequences_.find(id);
  return it == sequences_.end() ? nullptr : it->second.get();
}

absl::Status SequenceTable::CheckWork(const RankSequence& sequence, const SequenceWork& work,
                                      int64_t step_id) const {
  if (sequence.failed) return Contradiction(work.id, "has work after a row that was not finite");
  if (sequence.last_step == step_id) return Contradiction(work.id, "has work twice");
  const int known = static_cast<int>(sequence.tokens.size()) - sequence.num_computed;
  if (work.num_tokens < 1 || work.num_tokens > known) {
    return Contradiction(work.id, "runs ", work.num_tokens, " of ", known, " known tokens");
  }
  if (!work.draft_token_ids.empty() && work.num_tokens != known) {
    return Contradiction(work.id, "has drafts after ", work.num_tokens, " of ", known,
                         " known tokens");
  }
  if (sequence.pending_draw >= 0 && work.num_tokens == known &&
      (known > 1 || !work.draft_token_ids.empty() || sequence.pending_step + 1 != step_id)) {
    return Contradiction(work.id, "runs a token of step ", sequence.pending_step,
                         " that nobody has read, with others");
  }
  RETURN_IF_ERROR(CheckTokens(work.id, work.draft_token_ids));
  RETURN_IF_ERROR(CheckPath(sequence, work));
  RETURN_IF_ERROR(CheckSlot(sequence, work));
  return CheckPages(sequence, work);
}

absl::Status SequenceTable::CheckPath(const RankSequence& sequence,
                                      const SequenceWork& work) const {
  const int first = sequence.num_computed;
  if (work.path == ComputePath::kDecode) {
    if (first >= sequence.prompt_tokens) return absl::OkStatus();
    return Contradiction(work.id, "decodes position ", first, " of a prompt of ",
                         sequence.prompt_tokens);
  }
  const int end = first + work.num_tokens;
  if (end <= sequence.prompt_tokens && work.draft_token_ids.empty()) return absl::OkStatus();
  return Contradiction(work.id, "prefills to position ", end, " and ", work.draft_token_ids.size(),
                       " drafts after a prompt of ", sequence.prompt_tokens);
}

// One slot at a time, nobody else's, if the model has any.
absl::Status SequenceTable::CheckSlot(const RankSequence& sequence,
                                      const SequenceWork& work) const {
  const StateSlotId slot = work.state_slot;
  const bool wants_one = limits_.num_state_slots > 0 && sequence.state_slot == kNullSlot;
  if (slot == kNullSlot && !wants_one) return absl::OkStatus();
  if (!wants_one || slot < 0 || slot >= limits_.num_state_slots) {
    return Contradiction(work.id, "with state slot ", sequence.state_slot, " gets ", slot, " of ",
                         limits_.num_state_slots);
  }
  for (const auto& [id, other] : sequences_) {
    if (other->state_slot == slot) {
      return Contradiction(work.id, "gets state slot ", slot, ", which sequence ", id, " has");
    }
  }
  return absl::OkStatus();
}

absl::Status SequenceTable::CheckPages(const RankSequence& sequence,
                                       const SequenceWork& work) const {
  for (const PageId page : work.new_pages) {
    if (page < 0 || page >= limits_.num_pages) {
      return Contradiction(work.id, "gets page ", page, " of ", limits_.num_pages);
    }
  }
  const int64_t length = int64_t{sequence.num_computed} + work.num_tokens +
                         static_cast<int64_t>(work.draft_token_ids.size());
  const int64_t pages = static_cast<int64_t>(sequence.page_table.size() + work.new_pages.size());
  if (length > limits_.max_positions || length > pages * limits_.page_size) {
    return Contradiction(work.id, "runs to length ", length, " with ", pages, " pages of ",
                         limits_.page_size, " and ", limits_.max_positions, " positions");
  }
  return absl::OkStatus();
}

}  // namespace krait
