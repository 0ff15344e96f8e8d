#pragma once

#include <cstdint>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "common/token.h"
#include "common/vocabulary.h"
#include "coordinator/tokenizer/merge_queue.h"

namespace krait {

// The merges of a byte-level BPE vocabulary: two neighbouring pieces become one, the pair of lowest
// rank first, the leftmost of equal ones. Immutable; any thread.
class WordMerger {
 public:
  // `vocabulary` must be valid (ValidateVocabulary).
  explicit WordMerger(const Vocabulary& vocabulary);

  // Working memory of one caller, kept between words to save allocations.
  struct Scratch {
    // A piece covers one cell for each piece it was merged from. Its first cell has its id and the
    // number of its cells, its last one (if another) -1 and the index of the first. Eight bytes a
    // cell: long words are bound by memory.
    struct Cell {
      TokenId id;
      int32_t extent;
    };
    std::vector<Cell> cells;
    MergeQueue queue;  // positions are the left pieces' first cells
  };

  // Merges the pieces in scratch.cells, all with extent 1, until no rule applies any more; appends
  // what is left to `out`. O(n log n). The scratch's contents are spent.
  void Merge(Scratch& scratch, std::vector<TokenId>& out) const;

 private:
  static constexpr uint32_t kNoRank = UINT32_MAX;
  uint32_t RankOf(TokenId left, TokenId right) const;
  void Enqueue(Scratch& scratch, size_t left) const;
  void MergeAt(Scratch& scratch, size_t left, TokenId merged) const;

  absl::flat_hash_map<uint64_t, uint32_t> ranks_;  // by (left << 32 | right)
  std::vector<TokenId> merged_;                    // by rank
};

}  // namespace krait
