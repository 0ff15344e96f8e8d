#include "worker/sampling/candidate_lists.h"

#include <utility>

#include "common/status_macros.h"
#include "worker/sampling/candidate_cut.h"

namespace krait {

absl::StatusOr<std::vector<std::vector<Candidate>>> TopOfAllRanks(Backend* backend,
                                                                  const ShardExchange& exchange,
                                                                  const RowStates& rows) {
  std::vector<TopRow> tops;
  std::vector<size_t> owner;
  for (size_t i = 0; i < rows.size(); ++i) {
    if (!rows[i]->finite()) continue;  // comparisons with NaN order nothing
    tops.push_back({rows[i]->shard, rows[i]->wanted});
    owner.push_back(i);
  }
  std::vector<std::vector<Candidate>> found(tops.size());
  backend->TopCandidates(tops, absl::MakeSpan(found));

  std::vector<Candidate> sent;
  std::vector<size_t> offset;
  for (size_t i = 0, next = 0; i < rows.size(); ++i) {
    offset.push_back(sent.size());
    if (next < owner.size() && owner[next] == i) {
      sent.insert(sent.end(), found[next].begin(), found[next].end());
      ++next;
    }
    sent.resize(offset[i] + rows[i]->wanted, Candidate{0, -1});
  }
  ASSIGN_OR_RETURN(const std::vector<Candidate> all, exchange.GatherItems(sent));

  std::vector<std::vector<Candidate>> lists;
  for (size_t i = 0; i < rows.size(); ++i) {
    std::vector<Candidate> candidates;
    for (int rank = 0; rank < exchange.num_ranks(); ++rank) {
      const auto begin = all.begin() + rank * sent.size() + offset[i];
      candidates.insert(candidates.end(), begin, begin + rows[i]->wanted);
    }
    lists.push_back(MergeCandidates(candidates));
  }
  return lists;
}

void CutGaps(int wanted, std::vector<Candidate>& list) {
  if (list.size() > static_cast<size_t>(wanted)) list.resize(wanted);
}

}  // namespace krait
