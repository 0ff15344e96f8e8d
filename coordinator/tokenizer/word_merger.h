#pragma once

#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "common/token.h"
#include "common/vocabulary.h"

namespace krait {

// The merges of a byte-level BPE vocabulary: two neighbouring pieces become one, the pair of lowest
// rank first, the leftmost of equal ones. Immutable; any thread.
class WordMerger {
 public:
  // `vocabulary` must be valid (ValidateVocabulary).
  explicit WordMerger(const Vocabulary& vocabulary);

  // Working memory of one caller, kept between words to save allocations.
  struct Scratch {
    struct Symbol {
      TokenId id;  // -1: merged into the one before it
      int32_t previous, next;
    };
    struct Candidate {
      uint32_t rank;
      int32_t left;  // index of the left symbol
      TokenId merged;
    };
    std::vector<Symbol> symbols;
    std::vector<Candidate> queue;  // a heap, lowest rank and then leftmost on top
  };

  // Appends to `out` what is left of the pieces `ids` when no merge applies any more. O(n log n).
  void Merge(const std::vector<TokenId>& ids, Scratch& scratch, std::vector<TokenId>& out) const;

 private:
  struct Rule {
    uint32_t rank;
    TokenId merged;
  };
  const Rule* Find(TokenId left, TokenId right) const;
  void Enqueue(Scratch& scratch, int32_t left) const;
  void MergeAt(Scratch& scratch, int32_t left, TokenId merged) const;

  absl::flat_hash_map<uint64_t, Rule> rules_;  // by (left << 32 | right)
};

}  // namespace krait
