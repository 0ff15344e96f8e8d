#pragma once

// SentencePiece's BPE joins the two neighbours whose union is the piece of highest score. As merges
// by rank, which is how tokenizer.json says the same.

#include <vector>

#include "absl/status/status.h"
#include "common/vocabulary.h"

namespace krait {

// Longest piece of a vocabulary with scores: every way to cut a piece in two is looked at.
inline constexpr size_t kMaxScoredPieceBytes = 512;

// Fills merges and merge_ranks: every way to make a normal piece of two others, pieces of higher
// score first, those of equal score at one rank. INVALID_ARGUMENT names an element: a score that is
// not a number, not one score a piece, a piece that is too long, an unused piece that other pieces
// make (SentencePiece takes it apart again; not supported).
absl::Status SetMergesByScore(const std::vector<double>& scores, Vocabulary& vocabulary);

// Merges as read from a tokenizer.json that was made from scores hold every way to make a piece in
// a row: then all ways to make one piece get one rank, as they have in SentencePiece. Otherwise
// merge_ranks stays empty: every merge has a rank of its own. Merges that make or take an added or
// a byte token, which text never gives, are left out in both cases.
void GroupMergesByPiece(Vocabulary& vocabulary);

}  // namespace krait
