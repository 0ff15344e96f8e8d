#include "coordinator/tokenizer/word_merger.h"

#include <algorithm>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"
#include "common/logging.h"

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

// A token of a window, and its first symbol, counted from the start of the word.
struct Token {
  TokenId id;
  size_t begin;

  bool operator==(const Token& other) const { return id == other.id && begin == other.begin; }
};

std::vector<Token> TokensOf(const Cells& cells, size_t begin) {
  std::vector<Token> tokens;
  for (size_t at = 0; at < cells.size(); at = NextPiece(cells, at)) {
    tokens.push_back({cells[at].id, begin + at});
  }
  return tokens;
}

struct Meeting {
  size_t earlier, later;  // indices of the same token
};

// The second of the first two tokens in a row that both have.
std::optional<Meeting> FindMeeting(const std::vector<Token>& earlier,
                                   const std::vector<Token>& later) {
  size_t i = 0, j = 0;
  while (i + 1 < earlier.size() && j + 1 < later.size()) {
    if (earlier[i] == later[j] && earlier[i + 1] == later[j + 1]) return Meeting{i + 1, j + 1};
    if (earlier[i].begin <= later[j].begin) {
      ++i;
    } else {
      ++j;
    }
  }
  return std::nullopt;
}

void AppendIds(const std::vector<Token>& tokens, size_t from, size_t to,
               std::vector<TokenId>& out) {
  for (size_t i = from; i < to; ++i) out.push_back(tokens[i].id);
}

}  // namespace

WordMerger::WordMerger(const Vocabulary& vocabulary, size_t window) : window_(window) {
  CHECK_GE(window, 2u);
  absl::flat_hash_map<absl::string_view, TokenId> ids;
  ids.reserve(vocabulary.pieces.size());
  for (size_t i = 0; i < vocabulary.pieces.size(); ++i) {
    ids[vocabulary.pieces[i]] = static_cast<TokenId>(i);
  }
  rules_.reserve(vocabulary.merges.size());
  for (size_t i = 0; i < vocabulary.merges.size(); ++i) {
    const absl::string_view merge = vocabulary.merges[i];
    const size_t space = merge.find(' ');
    std::string spelling(merge);
    spelling.erase(space, 1);
    const TokenId merged = ids.at(spelling);
    // A control token comes from no text.
    if (vocabulary.kinds[static_cast<size_t>(merged)] == TokenKind::kControl) continue;
    const uint32_t rank =
        vocabulary.merge_ranks.empty() ? static_cast<uint32_t>(i) : vocabulary.merge_ranks[i];
    if (rank >= merged_.size()) merged_.resize(rank + size_t{1}, -1);
    if (merged_[rank] < 0) merged_[rank] = merged;
    rules_[PairKey(ids.at(merge.substr(0, space)), ids.at(merge.substr(space + 1)))] = {rank,
                                                                                        merged};
  }
}

const WordMerger::Rule* WordMerger::FindRule(TokenId left, TokenId right) const {
  const auto it = rules_.find(PairKey(left, right));
  return it == rules_.end() ? nullptr : &it->second;
}

void WordMerger::Enqueue(Scratch& scratch, size_t left) const {
  const std::vector<Scratch::Cell>& cells = scratch.cells;
  const size_t right = NextPiece(cells, left);
  if (right == cells.size()) return;
  const Rule* rule = FindRule(cells[left].id, cells[right].id);
  if (rule != nullptr) scratch.queue.Push({rule->rank, static_cast<int32_t>(left)});
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

void WordMerger::MergeCells(absl::Span<const TokenId> symbols, Scratch& scratch) const {
  std::vector<Scratch::Cell>& cells = scratch.cells;
  cells.clear();
  for (TokenId symbol : symbols) cells.push_back({symbol, 1});
  scratch.num_cells += static_cast<int64_t>(symbols.size());
  scratch.queue.Clear();
  for (size_t i = 0; i < cells.size(); ++i) Enqueue(scratch, i);
  while (!scratch.queue.empty()) {
    const MergeQueue::Candidate top = scratch.queue.Pop();
    const auto left = static_cast<size_t>(top.position);
    if (cells[left].id < 0) continue;
    const size_t right = NextPiece(cells, left);
    if (right == cells.size()) continue;
    // Stale if either side has merged since, unless the pair of today is of the same rank or gives
    // the same piece: the references compare no more than what the union is.
    const Rule* rule = FindRule(cells[left].id, cells[right].id);
    if (rule != nullptr && (rule->rank == top.rank || merged_[rule->rank] == merged_[top.rank])) {
      MergeAt(scratch, left, rule->merged);
    }
  }
}

void WordMerger::MergeWhole(absl::Span<const TokenId> symbols, Scratch& scratch,
                            std::vector<TokenId>& out) const {
  MergeCells(symbols, scratch);
  const Cells& cells = scratch.cells;
  for (size_t i = 0; i < cells.size(); i = NextPiece(cells, i)) out.push_back(cells[i].id);
}

// False if two windows do not meet; what was appended is then void.
bool WordMerger::MergeByWindows(absl::Span<const TokenId> symbols, Scratch& scratch,
                                std::vector<TokenId>& out) const {
  std::vector<Token> earlier;  // the last window's tokens from `begin` on
  for (size_t begin = 0;;) {
    MergeCells(symbols.subspan(begin, window_), scratch);
    std::vector<Token> tokens = TokensOf(scratch.cells, begin);
    size_t first = 0;  // the first token that is not in `out` yet
    if (begin > 0) {
      const std::optional<Meeting> meeting = FindMeeting(earlier, tokens);
      if (!meeting) return false;
      AppendIds(earlier, 0, meeting->earlier, out);
      first = meeting->later;
    }
    if (window_ >= symbols.size() - begin) {
      AppendIds(tokens, first, tokens.size(), out);
      return true;
    }
    // The next window begins with a token of this one, an eighth of a window before its end.
    size_t next = tokens.size() - 1;
    while (next > first && tokens[next].begin - begin > window_ - window_ / 8) --next;
    if (next == first) return false;
    AppendIds(tokens, first, next, out);
    begin = tokens[next].begin;
    tokens.erase(tokens.begin(), tokens.begin() + static_cast<std::ptrdiff_t>(next));
    earlier = std::move(tokens);
  }
}

void WordMerger::Merge(absl::Span<const TokenId> symbols, Scratch& scratch,
                       std::vector<TokenId>& out) const {
  const size_t before = out.size();
  if (symbols.size() > window_) {
    if (MergeByWindows(symbols, scratch, out)) return;
    out.resize(before);
  }
  MergeWhole(symbols, scratch, out);
}

}  // namespace krait
