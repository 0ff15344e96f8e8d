#include "worker/server/draft_table.h"

#include <algorithm>

#include "common/prefix_hash.h"

namespace krait {
namespace {

constexpr int kTokensACall = 16;

}  // namespace

DraftTable::DraftTable(Proposer* proposer, int max_sequences, int max_context_tokens)
    : proposer_(proposer),
      max_sequences_(std::max(1, max_sequences)),
      max_context_tokens_(max_context_tokens) {}

DraftSequence* DraftTable::Update(const std::string& target, const DraftUpdate& update) {
  const Key key(target, update.sequence_id);
  auto it = sequences_.find(key);
  const int known = it == sequences_.end() ? 0 : static_cast<int>(it->second.tokens.size());
  const bool begins = update.from_position == 0 && !update.tokens.empty();
  if (it == sequences_.end() && !begins) return nullptr;
  if (it != sequences_.end()) {
    DraftSequence& sequence = it->second;
    uses_.splice(uses_.begin(), uses_, sequence.used);
    if (update.from_position > known) return &sequence;  // a gap: `known` tells the target
    const auto end = std::min<size_t>(update.from_position + update.tokens.size(), known);
    const bool agrees = std::equal(sequence.tokens.begin() + update.from_position,
                                   sequence.tokens.begin() + end, update.tokens.begin());
    if (agrees) {
      Extend(sequence, update);
      return &sequence;
    }
    Drop(it);  // committed tokens never change: this is another sequence
    if (!begins) return nullptr;
  }
  return &Begin(key, update);
}

DraftSequence& DraftTable::Begin(const Key& key, const DraftUpdate& update) {
  while (size() >= max_sequences_) Drop(sequences_.find(uses_.back()));
  uses_.push_front(key);
  DraftSequence& sequence = sequences_[key];
  sequence.id = next_id_++;
  sequence.hash = kEmptyPrefixHash;
  sequence.used = uses_.begin();
  Extend(sequence, update);
  const int prompt_tokens =
      std::clamp(update.prompt_tokens, 0, static_cast<int>(sequence.tokens.size()));
  proposer_->Begin(sequence.id, absl::MakeConstSpan(sequence.tokens).first(prompt_tokens),
                   prompt_tokens, update.sampling);
  return sequence;
}

// `update` joins the known tokens without a gap and agrees with them.
void DraftTable::Extend(DraftSequence& sequence, const DraftUpdate& update) {
  int added = 0;
  const size_t known = sequence.tokens.size() - update.from_position;
  for (size_t i = known; i < update.tokens.size(); ++i) {
    if (static_cast<int>(sequence.tokens.size()) >= max_context_tokens_) break;
    sequence.tokens.push_back(update.tokens[i]);
    sequence.hash = ExtendPrefixHash(sequence.hash, update.tokens[i]);
    ++added;
  }
  if (added > 0) sequence.catch_up_calls += added / kTokensACall + 1;
}

DraftSequence* DraftTable::Find(const std::string& target, int64_t sequence_id) {
  const auto it = sequences_.find({target, sequence_id});
  return it == sequences_.end() ? nullptr : &it->second;
}

void DraftTable::Release(const std::string& target, int64_t sequence_id) {
  const auto it = sequences_.find({target, sequence_id});
  if (it != sequences_.end()) Drop(it);
}

void DraftTable::Drop(std::map<Key, DraftSequence>::iterator it) {
  proposer_->Release(it->second.id);
  uses_.erase(it->second.used);
  sequences_.erase(it);
}

DraftSequence* DraftTable::Behind() {
  for (const Key& key : uses_) {
    DraftSequence& sequence = sequences_.at(key);
    if (sequence.catch_up_calls > 0) return &sequence;
  }
  return nullptr;
}

}  // namespace krait
