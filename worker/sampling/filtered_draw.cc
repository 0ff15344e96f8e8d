#include "worker/sampling/filtered_draw.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "common/status_macros.h"
#include "worker/sampling/candidate_cut.h"
#include "worker/sampling/candidate_lists.h"

namespace krait {
namespace {

// A nucleus rarely holds more tokens than the first list; each further one is so many times longer.
constexpr int kFirstCandidates = 64;
constexpr int kCandidateGrowth = 8;

std::vector<uint64_t> Masses(Backend* host, const RowState& state,
                             absl::Span<const Candidate> candidates) {
  std::vector<float> logits;
  for (const Candidate& candidate : candidates) logits.push_back(candidate.logit);
  std::vector<MassRow> rows;
  for (float& logit : logits) {
    rows.push_back({{&logit, 1, 0, nullptr}, state.head.max, state.params->temperature});
  }
  std::vector<uint64_t> masses(rows.size());
  host->ExpMass(rows, absl::MakeSpan(masses));
  return masses;
}

// The candidates lie on every rank, so each draws the same without another exchange.
void DrawFrom(Backend* host, size_t num_kept, RowState& state) {
  state.top.resize(num_kept);
  std::sort(state.top.begin(), state.top.end(),
            [](const Candidate& a, const Candidate& b) { return a.id < b.id; });
  std::vector<float> logits;
  std::vector<TokenId> ids;
  for (const Candidate& candidate : state.top) {
    logits.push_back(candidate.logit);
    ids.push_back(candidate.id);
  }
  GumbelRow row = NoiseRow(state, -std::numeric_limits<float>::infinity());
  row.shard = {logits.data(), static_cast<int64_t>(logits.size()), 0, ids.data()};
  GumbelBest best;
  host->GumbelArgmax({&row, 1}, absl::MakeSpan(&best, 1));
  state.token.id = best.id;
}

}  // namespace

absl::Status DrawFiltered(Backend* backend, Backend* host, const ShardExchange& exchange,
                          int max_shard_size, RowStates rows) {
  for (RowState* state : rows) {
    const int first = state->params->top_k > 0 ? state->params->top_k : kFirstCandidates;
    state->wanted = std::min(first, max_shard_size);
  }
  while (!rows.empty()) {
    ASSIGN_OR_RETURN(auto lists, TopOfAllRanks(backend, exchange, rows));
    RowStates open;
    for (size_t i = 0; i < rows.size(); ++i) {
      RowState& state = *rows[i];
      const bool complete = state.wanted >= max_shard_size;  // there are no others
      if (!complete) CutGaps(state.wanted, lists[i]);
      state.top = std::move(lists[i]);
      const CutParams cut = {.max = state.head.max,
                             .temperature = state.params->temperature,
                             .min_z = MinZ(state.params->min_p),
                             .top_k = state.params->top_k,
                             .top_p = state.params->top_p,
                             .total_mass = state.total_mass};
      const auto kept = CutCandidates(
          cut, state.top, complete,
          [&](absl::Span<const Candidate> candidates) { return Masses(host, state, candidates); });
      if (kept.has_value()) {
        DrawFrom(host, *kept, state);
      } else {
        state.wanted = static_cast<int>(
            std::min<int64_t>(int64_t{state.wanted} * kCandidateGrowth, max_shard_size));
        open.push_back(&state);
      }
    }
    rows = std::move(open);
  }
  return absl::OkStatus();
}

}  // namespace krait
