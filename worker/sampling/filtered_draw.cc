#include "worker/sampling/filtered_draw.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "common/status_macros.h"
#include "kernels/cpu/fill_masses.h"
#include "worker/sampling/candidate_cut.h"
#include "worker/sampling/candidate_lists.h"

namespace krait {
namespace {

// A nucleus rarely holds more tokens than the first list; each further one is so many times longer.
constexpr int kFirstCandidates = 64;
constexpr int kCandidateGrowth = 8;

// The candidates lie on every rank, so each draws the same without another exchange.
void DrawFrom(Backend* host, RowState& state) {
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

std::vector<uint64_t> MassesOf(absl::Span<const Candidate> candidates, const RowState& state) {
  std::vector<float> logits;
  for (const Candidate& candidate : candidates) logits.push_back(candidate.logit);
  std::vector<uint64_t> masses(logits.size());
  kernels::FillMasses({{logits.data(), static_cast<int64_t>(logits.size()), 0, nullptr},
                       state.head.max,
                       state.params->temperature},
                      absl::MakeSpan(masses));
  return masses;
}

absl::Status CutRows(Backend* backend, const ShardExchange& exchange, int max_shard_size,
                     RowStates rows) {
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
          [&](absl::Span<const Candidate> candidates) { return MassesOf(candidates, state); });
      if (kept.has_value()) {
        state.top.resize(*kept);
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

absl::Status DrawFiltered(Backend* backend, Backend* host, const ShardExchange& exchange,
                          int max_shard_size, const RowStates& rows) {
  RETURN_IF_ERROR(CutRows(backend, exchange, max_shard_size, rows));
  for (RowState* state : rows) DrawFrom(host, *state);
  return absl::OkStatus();
}

}  // namespace krait
