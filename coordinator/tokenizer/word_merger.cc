#include "coordinator/tokenizer/word_merger.h"

#include <algorithm>
#include <string>

#include "absl/strings/string_view.h"

namespace krait {
namespace {

uint64_t PairKey(TokenId left, TokenId right) {
  return uint64_t{static_cast<uint32_t>(left)} << 32 | static_cast<uint32_t>(right);
}

// For the standard heap functions, whose top is the largest: later means lower.
bool Later(const WordMerger::Scratch::Candidate& a, const WordMerger::Scratch::Candidate& b) {
  return a.rank != b.rank ? a.rank > b.rank : a.left > b.left;
}

}  // namespace

WordMerger::WordMerger(const Vocabulary& vocabulary) {
  absl::flat_hash_map<absl::string_view, TokenId> ids;
  ids.reserve(vocabulary.pieces.size());
  for (size_t i = 0; i < vocabulary.pieces.size(); ++i) {
    ids[vocabulary.pieces[i]] = static_cast<TokenId>(i);
  }
  rules_.reserve(vocabulary.merges.size());
  for (size_t rank = 0; rank < vocabulary.merges.size(); ++rank) {
    const absl::string_view merge = vocabulary.merges[rank];
    const size_t space = merge.find(' ');
    std::string merged(merge);
    merged.erase(space, 1);
    rules_[PairKey(ids.at(merge.substr(0, space)), ids.at(merge.substr(space + 1)))] = {
        static_cast<uint32_t>(rank), ids.at(merged)};
  }
}

const WordMerger::Rule* WordMerger::Find(TokenId left, TokenId right) const {
  const auto it = rules_.find(PairKey(left, right));
  return it == rules_.end() ? nullptr : &it->second;
}

void WordMerger::Enqueue(Scratch& scratch, int32_t left) const {
  const Scratch::Symbol& symbol = scratch.symbols[static_cast<size_t>(left)];
  if (symbol.next < 0) return;
  const Rule* rule = Find(symbol.id, scratch.symbols[static_cast<size_t>(symbol.next)].id);
  if (rule != nullptr) scratch.queue.push_back({rule->rank, left, rule->merged});
}

void WordMerger::MergeAt(Scratch& scratch, int32_t left, TokenId merged) const {
  Scratch::Symbol& symbol = scratch.symbols[static_cast<size_t>(left)];
  Scratch::Symbol& right = scratch.symbols[static_cast<size_t>(symbol.next)];
  symbol.id = merged;
  symbol.next = right.next;
  right.id = -1;
  if (symbol.next >= 0) scratch.symbols[static_cast<size_t>(symbol.next)].previous = left;
  for (int32_t at : {symbol.previous, left}) {
    if (at < 0) continue;
    const size_t before = scratch.queue.size();
    Enqueue(scratch, at);
    if (scratch.queue.size() > before) {
      std::push_heap(scratch.queue.begin(), scratch.queue.end(), Later);
    }
  }
}

void WordMerger::Merge(const std::vector<TokenId>& ids, Scratch& scratch,
                       std::vector<TokenId>& out) const {
  const auto size = static_cast<int32_t>(ids.size());
  scratch.symbols.clear();
  scratch.queue.clear();
  for (int32_t i = 0; i < size; ++i) {
    scratch.symbols.push_back({ids[static_cast<size_t>(i)], i - 1, i + 1 < size ? i + 1 : -1});
  }
  for (int32_t i = 0; i + 1 < size; ++i) Enqueue(scratch, i);
  std::make_heap(scratch.queue.begin(), scratch.queue.end(), Later);
  while (!scratch.queue.empty()) {
    const Scratch::Candidate top = scratch.queue.front();
    std::pop_heap(scratch.queue.begin(), scratch.queue.end(), Later);
    scratch.queue.pop_back();
    const Scratch::Symbol& symbol = scratch.symbols[static_cast<size_t>(top.left)];
    if (symbol.id < 0 || symbol.next < 0) continue;
    // Stale if either side has merged since, unless the pair of today gives the same piece: the
    // reference compares no more than that.
    const Rule* rule = Find(symbol.id, scratch.symbols[static_cast<size_t>(symbol.next)].id);
    if (rule != nullptr && rule->merged == top.merged) MergeAt(scratch, top.left, top.merged);
  }
  for (const Scratch::Symbol& symbol : scratch.symbols) {
    if (symbol.id >= 0) out.push_back(symbol.id);
  }
}

}  // namespace krait
