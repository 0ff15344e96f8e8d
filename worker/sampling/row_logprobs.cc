#include "worker/sampling/row_logprobs.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "common/status_macros.h"
#include "worker/sampling/candidate_lists.h"

namespace krait {
namespace {

struct OwnedLogit {
  float logit = 0;
  uint32_t owned = 0;
};

float ReadLogit(Backend* backend, const LogitsShard& shard, TokenId id) {
  float logit = 0;
  backend->CopyToHost(TensorView(shard.logits + IndexOf(shard, id), DType::kF32, {1}), &logit);
  return logit;
}

}  // namespace

absl::Status ReadRawLogits(Backend* backend, const ShardExchange& exchange, const RowStates& rows) {
  if (rows.empty()) return absl::OkStatus();
  for (RowState* state : rows) state->wanted = std::max(1, state->params->num_logprobs);
  ASSIGN_OR_RETURN(auto lists, TopOfAllRanks(backend, exchange, rows));
  for (size_t i = 0; i < rows.size(); ++i) {
    CutGaps(rows[i]->wanted, lists[i]);
    rows[i]->raw_top = std::move(lists[i]);
  }
  std::vector<MassRow> mass_rows;
  RowStates readable;
  for (RowState* state : rows) {
    if (!state->finite() || state->raw_top.empty()) continue;
    mass_rows.push_back({state->shard, state->raw_top[0].logit, 1.0f});
    readable.push_back(state);
  }
  std::vector<uint64_t> masses(mass_rows.size());
  backend->ExpMass(mass_rows, absl::MakeSpan(masses));
  for (size_t i = 0; i < readable.size(); ++i) readable[i]->head.raw_mass = masses[i];
  return absl::OkStatus();
}

absl::Status FillLogprobs(Backend* backend, const VocabShard& shard, const ShardExchange& exchange,
                          const RowStates& rows) {
  if (rows.empty()) return absl::OkStatus();
  std::vector<OwnedLogit> sent;
  for (const RowState* state : rows) {
    OwnedLogit own;
    const TokenId id = state->token.id;
    if (shard.Contains(id)) {
      const auto it = std::lower_bound(
          state->replaced.begin(), state->replaced.end(), id,
          [](const Candidate& candidate, TokenId wanted) { return candidate.id < wanted; });
      const bool replaced = it != state->replaced.end() && it->id == id;
      own = {replaced ? it->logit : ReadLogit(backend, state->shard, id), 1};
    }
    sent.push_back(own);
  }
  ASSIGN_OR_RETURN(const std::vector<OwnedLogit> all, exchange.GatherItems(sent));
  for (size_t i = 0; i < rows.size(); ++i) {
    RowState& state = *rows[i];
    // 2^-40: the unit of Backend::ExpMass.
    const double log_sum_exp =
        state.raw_top[0].logit + std::log(static_cast<double>(state.head.raw_mass) * 0x1p-40);
    const auto logprob = [&](float logit) { return static_cast<float>(logit - log_sum_exp); };
    for (int rank = 0; rank < exchange.num_ranks(); ++rank) {
      const OwnedLogit& owned = all[rank * rows.size() + i];
      if (owned.owned) state.token.logprobs.token = {state.token.id, logprob(owned.logit)};
    }
    for (const Candidate& candidate : state.raw_top) {
      if (static_cast<int>(state.token.logprobs.top.size()) == state.params->num_logprobs) break;
      state.token.logprobs.top.push_back({candidate.id, logprob(candidate.logit)});
    }
  }
  return absl::OkStatus();
}

}  // namespace krait
