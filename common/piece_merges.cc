#include "common/piece_merges.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "common/json.h"

namespace krait {
namespace {

using Ids = absl::flat_hash_map<absl::string_view, size_t>;

Ids NormalPieces(const Vocabulary& vocabulary) {
  Ids ids;
  for (size_t i = 0; i < vocabulary.pieces.size(); ++i) {
    if (vocabulary.kinds[i] == TokenKind::kNormal) ids[vocabulary.pieces[i]] = i;
  }
  return ids;
}

struct Cut {
  size_t left, right;  // ids
};

// All ways to make `piece` of two pieces, by ids.
std::vector<Cut> CutsOf(absl::string_view piece, const Ids& ids) {
  std::vector<Cut> cuts;
  for (size_t at = 1; at < piece.size(); ++at) {
    if ((static_cast<unsigned char>(piece[at]) & 0xc0) == 0x80) continue;  // inside a character
    const auto left = ids.find(piece.substr(0, at));
    if (left == ids.end()) continue;
    const auto right = ids.find(piece.substr(at));
    if (right != ids.end()) cuts.push_back({left->second, right->second});
  }
  std::sort(cuts.begin(), cuts.end(), [](const Cut& a, const Cut& b) {
    return std::pair(a.left, a.right) < std::pair(b.left, b.right);
  });
  return cuts;
}

void AppendCuts(const std::vector<Cut>& cuts, uint32_t rank, Vocabulary& vocabulary) {
  for (const Cut& cut : cuts) {
    vocabulary.merges.push_back(
        absl::StrCat(vocabulary.pieces[cut.left], " ", vocabulary.pieces[cut.right]));
    vocabulary.merge_ranks.push_back(rank);
  }
}

absl::Status ElementError(const Vocabulary& vocabulary, size_t id, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat(vocabulary.source, ": scores: id ", id, " ",
                                                 QuoteJson(vocabulary.pieces[id].substr(0, 64)),
                                                 " ", what));
}

absl::Status CheckScored(const Vocabulary& vocabulary, const std::vector<double>& scores,
                         const Ids& ids) {
  if (scores.size() != vocabulary.pieces.size() ||
      vocabulary.kinds.size() != vocabulary.pieces.size()) {
    return absl::InvalidArgumentError(absl::StrCat(vocabulary.source, ": scores: ", scores.size(),
                                                   " for ", vocabulary.pieces.size(), " tokens"));
  }
  for (size_t i = 0; i < scores.size(); ++i) {
    const std::string& piece = vocabulary.pieces[i];
    if (std::isnan(scores[i])) return ElementError(vocabulary, i, "has one that is not a number");
    if (piece.size() > kMaxScoredPieceBytes) {
      return ElementError(
          vocabulary, i,
          absl::StrCat("has ", piece.size(), " bytes, limit ", kMaxScoredPieceBytes));
    }
    if (vocabulary.kinds[i] == TokenKind::kUnused && !CutsOf(piece, ids).empty()) {
      return ElementError(vocabulary, i, "is unused but can be made of others: not supported");
    }
  }
  return absl::OkStatus();
}

struct Parts {
  absl::string_view left, right;
};

Parts Halves(absl::string_view merge) {
  const size_t space = merge.find(' ');
  if (space == absl::string_view::npos) return {merge, ""};
  return {merge.substr(0, space), merge.substr(space + 1)};
}

void DropMergesOfOtherKinds(const Ids& normal, Vocabulary& vocabulary) {
  Ids all;
  for (size_t i = 0; i < vocabulary.pieces.size(); ++i) all[vocabulary.pieces[i]] = i;
  // Of a known kind, but not normal. Unknown pieces are ValidateVocabulary's to refuse.
  const auto is_other = [&](absl::string_view piece) {
    return !normal.contains(piece) && all.contains(piece);
  };
  const auto dropped = [&](const std::string& merge) {
    const auto [left, right] = Halves(merge);
    return is_other(left) || is_other(right) || is_other(absl::StrCat(left, right));
  };
  std::vector<std::string>& merges = vocabulary.merges;
  merges.erase(std::remove_if(merges.begin(), merges.end(), dropped), merges.end());
}

// The pieces that the merges make, each once, if each has all its cuts in a row.
std::vector<size_t> PiecesInOrder(const Vocabulary& vocabulary, const Ids& ids) {
  std::vector<size_t> order;
  for (size_t at = 0; at < vocabulary.merges.size();) {
    const auto [left, right] = Halves(vocabulary.merges[at]);
    const auto made = ids.find(absl::StrCat(left, right));
    if (made == ids.end() || vocabulary.pieces[made->second].size() > kMaxScoredPieceBytes)
      return {};
    std::vector<std::string> expected;
    for (const Cut& cut : CutsOf(made->first, ids)) {
      expected.push_back(
          absl::StrCat(vocabulary.pieces[cut.left], " ", vocabulary.pieces[cut.right]));
    }
    const size_t end = std::min(at + expected.size(), vocabulary.merges.size());
    std::vector<std::string> found(vocabulary.merges.begin() + static_cast<std::ptrdiff_t>(at),
                                   vocabulary.merges.begin() + static_cast<std::ptrdiff_t>(end));
    std::sort(expected.begin(), expected.end());
    std::sort(found.begin(), found.end());
    if (found.empty() || found != expected) return {};
    order.push_back(made->second);
    at = end;
  }
  return order;
}

}  // namespace

absl::Status SetMergesByScore(const std::vector<double>& scores, Vocabulary& vocabulary) {
  const Ids ids = NormalPieces(vocabulary);
  if (absl::Status status = CheckScored(vocabulary, scores, ids); !status.ok()) return status;
  std::vector<size_t> order(scores.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return scores[a] > scores[b]; });
  vocabulary.merges.clear();
  vocabulary.merge_ranks.clear();
  uint32_t next_rank = 0;
  int64_t num_bytes = 0;
  double last = 0;
  for (size_t id : order) {
    if (vocabulary.kinds[id] != TokenKind::kNormal) continue;
    const std::vector<Cut> cuts = CutsOf(vocabulary.pieces[id], ids);
    if (cuts.empty()) continue;
    if (next_rank == 0 || scores[id] != last) ++next_rank;
    last = scores[id];
    AppendCuts(cuts, next_rank - 1, vocabulary);
    num_bytes += static_cast<int64_t>(cuts.size() * (vocabulary.pieces[id].size() + 1));
    if (num_bytes > kMaxVocabularyBytes) {
      return absl::InvalidArgumentError(absl::StrCat(vocabulary.source,
                                                     ": tokens: their merges are ", "more than ",
                                                     kMaxVocabularyBytes, " bytes"));
    }
  }
  return absl::OkStatus();
}

void GroupMergesByPiece(Vocabulary& vocabulary) {
  const Ids ids = NormalPieces(vocabulary);
  DropMergesOfOtherKinds(ids, vocabulary);
  std::vector<size_t> order = PiecesInOrder(vocabulary, ids);
  std::vector<size_t> distinct = order;
  std::sort(distinct.begin(), distinct.end());
  if (order.empty() || std::adjacent_find(distinct.begin(), distinct.end()) != distinct.end())
    return;
  vocabulary.merges.clear();
  for (size_t i = 0; i < order.size(); ++i) {
    AppendCuts(CutsOf(vocabulary.pieces[order[i]], ids), static_cast<uint32_t>(i), vocabulary);
  }
}

}  // namespace krait
