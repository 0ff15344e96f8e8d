#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/types/span.h"
#include "common/token.h"
#include "common/vocabulary.h"
#include "coordinator/tokenizer/merge_queue.h"

namespace krait {

// The merges of a BPE vocabulary: two neighbouring pieces become one, the pair of lowest rank
// first, the leftmost of equal ones. Immutable; any thread.
//
// A long word is merged in windows that overlap, so that the memory it works in stays in the cache
// and time grows as the length does. This changes no id. Let window A end inside window B, and let
// both find the same two tokens x, y in a row at the same place. Then no merge over the whole word
// crosses the border p between them: until one did, what lies left of p would merge as in A and
// what lies right of it as in B; so x and y would form from their own symbols alone, in the one
// order that rank and position give, and the merge that crosses p would be chosen in A too, where p
// is a border. So the tokens before p are A's and those behind it are B's. Windows that do not
// meet that way leave the word to one piece of work, MergeWhole.
class WordMerger {
 public:
  static constexpr size_t kDefaultWindow = 4096;

  // `vocabulary` must be valid (ValidateVocabulary). `window` symbols are merged at a time, at
  // least 2.
  explicit WordMerger(const Vocabulary& vocabulary, size_t window = kDefaultWindow);

  // Working memory of one caller, kept between words to save allocations.
  struct Scratch {
    // A piece covers one cell for each symbol it was merged from. Its first cell has its id and the
    // number of its cells, its last one (if another) -1 and the index of the first.
    struct Cell {
      TokenId id;
      int32_t extent;
    };
    std::vector<Cell> cells;
    MergeQueue queue;  // positions are the left pieces' first cells
    // Cells laid and candidates handled since the scratch was made, times the depth of the heap
    // each went through: what the time is made of.
    int64_t num_steps() const { return num_cells + queue.num_steps(); }
    int64_t num_cells = 0;
  };

  // Merges `symbols` until no rule applies any more; appends what is left to `out`. O(n log n) for
  // any symbols, O(n) where windows meet. INT32_MAX symbols at most.
  void Merge(absl::Span<const TokenId> symbols, Scratch& scratch, std::vector<TokenId>& out) const;

  // The plain twin: the same result without windows.
  void MergeWhole(absl::Span<const TokenId> symbols, Scratch& scratch,
                  std::vector<TokenId>& out) const;

 private:
  struct Rule {
    uint32_t rank;
    TokenId merged;
  };
  const Rule* FindRule(TokenId left, TokenId right) const;  // null: these two do not merge
  void Enqueue(Scratch& scratch, size_t left) const;
  void MergeAt(Scratch& scratch, size_t left, TokenId merged) const;
  void MergeCells(absl::Span<const TokenId> symbols, Scratch& scratch) const;
  bool MergeByWindows(absl::Span<const TokenId> symbols, Scratch& scratch,
                      std::vector<TokenId>& out) const;

  const size_t window_;
  absl::flat_hash_map<uint64_t, Rule> rules_;  // by (left << 32 | right)
  // By rank: what its first rule makes. Rules of different ranks that make one piece show here.
  std::vector<TokenId> merged_;
};

}  // namespace krait
