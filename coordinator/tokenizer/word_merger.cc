#include "coordinator/tokenizer/word_merger.h"

#include <string>

#include "absl/strings/string_view.h"

namespace krait {
namespace {

uint64_t PairKey(TokenId left, TokenId right) {
  return uint64_t{static_cast<uint32_t>(left)} << 32 | static_cast<uint32_t>(right);
}

using Cells = std::vector<WordMerger::Scratch::Cell>;

// Of the piece whose first cell is `at`, in both.
size_t NextPiece(const Cells& cells, size_t at) {
  return at + static_cast<size_t>(cells[at].extent);
}
size_t PreviousPiece(const Cells& cells, size_t at) {
  return cells[at - 1].id >= 0 ? at - 1 : static_cast<size_t>(cells[at - 1].extent);
}

}  // namespace

WordMerger::WordMerger(const Vocabulary& vocabulary) {
  absl::flat_hash_map<absl::string_view, TokenId> ids;
  ids.reserve(vocabulary.pieces.size());
  for (size_t i = 0; i < vocabulary.pieces.size(); ++i) {
    ids[vocabulary.pieces[i]] = static_cast<TokenId>(i);
  }
  ranks_.reserve(vocabulary.merges.size());
  for (const absl::string_view merge : vocabulary.merges) {
    const size_t space = merge.find(' ');
    std::string merged(merge);
    merged.erase(space, 1);
    ranks_[PairKey(ids.at(merge.substr(0, space)), ids.at(merge.substr(space + 1)))] =
        static_cast<uint32_t>(merged_.size());
    merged_.push_back(ids.at(merged));
  }
}

uint32_t WordMerger::RankOf(TokenId left, TokenId right) const {
  const auto it = ranks_.find(PairKey(left, right));
  return it == ranks_.end() ? kNoRank : it->second;
}

void WordMerger::Enqueue(Scratch& scratch, size_t left) const {
  const std::vector<Scratch::Cell>& cells = scratch.cells;
  const size_t right = NextPiece(cells, left);
  if (right == cells.size()) return;
  const uint32_t rank = RankOf(cells[left].id, cells[right].id);
  if (rank != kNoRank) scratch.queue.Push({rank, static_cast<int32_t>(left)});
}

void WordMerger::MergeAt(Scratch& scratch, size_t left, TokenId merged) const {
  std::vector<Scratch::Cell>& cells = scratch.cells;
  const size_t right = NextPiece(cells, left);
  const size_t end = NextPiece(cells, right);
  cells[right].id = -1;
  cells[end - 1] = {-1, static_cast<int32_t>(left)};
  cells[left] = {merged, static_cast<int32_t>(end - left)};
  if (left > 0) Enqueue(scratch, PreviousPiece(cells, left));
  Enqueue(scratch, left);
}

void WordMerger::Merge(Scratch& scratch, std::vector<TokenId>& out) const {
  const std::vector<Scratch::Cell>& cells = scratch.cells;
  scratch.queue.Clear();
  for (size_t i = 0; i < cells.size(); ++i) Enqueue(scratch, i);
  while (!scratch.queue.empty()) {
    const MergeQueue::Candidate top = scratch.queue.Pop();
    const auto left = static_cast<size_t>(top.position);
    if (cells[left].id < 0) continue;
    const size_t right = NextPiece(cells, left);
    if (right == cells.size()) continue;
    // Stale if either side has merged since, unless the pair of today gives the same piece: the
    // reference compares no more than that.
    const uint32_t rank = RankOf(cells[left].id, cells[right].id);
    if (rank != kNoRank && merged_[rank] == merged_[top.rank])
      MergeAt(scratch, left, merged_[rank]);
  }
  for (size_t i = 0; i < cells.size(); i = NextPiece(cells, i)) out.push_back(cells[i].id);
}

}  // namespace krait
