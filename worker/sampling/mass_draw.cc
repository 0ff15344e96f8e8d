#include "worker/sampling/mass_draw.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "common/rejection_uniforms.h"
#include "common/status_macros.h"
#include "kernels/cpu/fill_masses.h"
#include "worker/sampling/filtered_draw.h"
#include "worker/sampling/rejection_sampler.h"

namespace krait {
namespace {

// Whether a list of candidates, which lies on every rank, is the row's whole distribution.
bool IsCut(const RowState& state) { return state.filtered() || state.params->min_p > 0; }

bool ById(const Candidate& a, const Candidate& b) { return a.id < b.id; }

// Of the candidates that the filters have left. Leaves them by rising id.
void SetListMasses(const VocabShard& shard, RowState& state, TokenMasses& masses) {
  std::sort(state.top.begin(), state.top.end(), ById);
  const std::vector<uint64_t> all = MassesOf(state.top, state);
  for (size_t i = 0; i < all.size(); ++i) {
    masses.total += all[i];
    if (all[i] > 0 && shard.Contains(state.top[i].id)) masses.Add(state.top[i].id, all[i]);
  }
}

void SetWholeMasses(Backend* backend, const RowState& state, TokenMasses& masses) {
  std::vector<float> copied;
  MassRow row = {state.shard, state.head.max, state.params->temperature};
  const int64_t n = row.shard.n;
  if (backend->device().kind != DeviceKind::kCpu) {
    copied.resize(n);
    backend->CopyToHost(TensorView(row.shard.logits, DType::kF32, {n}), copied.data());
    row.shard.logits = copied.data();
  }
  std::vector<uint64_t> all(n);
  kernels::FillMasses(row, absl::MakeSpan(all));
  masses.total = state.total_mass;
  for (int64_t i = 0; i < n; ++i) {
    if (all[i] == 0) continue;
    masses.Add(row.shard.ids ? row.shard.ids[i] : row.shard.first_id + static_cast<TokenId>(i),
               all[i]);
  }
}

SharedMasses MassesOfRow(Backend* backend, const VocabShard& shard, RowState& state) {
  auto masses = std::make_shared<TokenMasses>();
  if (IsCut(state)) {
    SetListMasses(shard, state, *masses);
  } else {
    SetWholeMasses(backend, state, *masses);
  }
  return masses;
}

// The logit of the row's draft, if this rank has it and the filters have left it.
std::optional<Candidate> DraftCandidate(Backend* backend, const RowState& state) {
  const TokenId id = state.row->draft;
  const int64_t index = IndexOf(state.shard, id);
  if (index < 0) return std::nullopt;
  if (IsCut(state)) {
    const auto at = std::find_if(state.top.begin(), state.top.end(),
                                 [id](const Candidate& candidate) { return candidate.id == id; });
    return at == state.top.end() ? std::nullopt : std::optional(*at);
  }
  Candidate candidate{0, id};
  backend->CopyToHost(TensorView(state.shard.logits + index, DType::kF32, {1}), &candidate.logit);
  return candidate;
}

// What the target gives each draft: its owner tells the others.
absl::Status FillTargetMasses(Backend* backend, const ShardExchange& exchange,
                              const RowStates& states, std::vector<VerifiedRow>& rows) {
  std::vector<uint64_t> sent(rows.size(), 0);
  for (size_t i = 0; i < rows.size(); ++i) {
    if (rows[i].draft == kNoToken || !rows[i].finite) continue;
    const std::optional<Candidate> candidate = DraftCandidate(backend, *states[i]);
    if (candidate.has_value()) sent[i] = MassesOf({&*candidate, 1}, *states[i])[0];
  }
  ASSIGN_OR_RETURN(const std::vector<uint64_t> all, exchange.GatherItems(sent));
  for (size_t i = 0; i < rows.size(); ++i) {
    for (int rank = 0; rank < exchange.num_ranks(); ++rank) {
      rows[i].target_mass += all[rank * rows.size() + i];
    }
  }
  return absl::OkStatus();
}

// The mass of all that may be drawn, of all ranks.
uint64_t TotalMass(const RowState& state) {
  if (!IsCut(state)) return state.total_mass;
  uint64_t total = 0;
  for (const uint64_t mass : MassesOf(state.top, state)) total += mass;
  return total;
}

VerifiedRow RowOf(const RowState& state) {
  const GumbelKey key = KeyOf(state);
  const bool proposes = state.row->rule == DrawRule::kPropose;
  VerifiedRow row{.draft = state.row->draft,
                  .draft_masses = state.row->draft_masses.get(),
                  .token_bits = UniformBits(
                      key, proposes ? UniformPurpose::kPropose : UniformPurpose::kReplace),
                  .finite = state.finite()};
  if (row.draft != kNoToken && row.finite) {
    row.accept_uniform = UniformOf(UniformBits(key, UniformPurpose::kAccept));
    row.target_total = TotalMass(state);
  }
  return row;
}

}  // namespace

absl::Status DrawByMasses(Backend* backend, const VocabShard& shard, const ShardExchange& exchange,
                          int max_shard_size, const RowStates& states) {
  if (states.empty()) return absl::OkStatus();
  RowStates cut;
  for (RowState* state : states) {
    if (state->finite() && IsCut(*state)) cut.push_back(state);
  }
  RETURN_IF_ERROR(CutRows(backend, exchange, max_shard_size, std::move(cut)));
  std::vector<VerifiedRow> rows;
  for (const RowState* state : states) rows.push_back(RowOf(*state));
  RETURN_IF_ERROR(FillTargetMasses(backend, exchange, states, rows));
  const auto masses_of = [&](size_t i) {
    states[i]->token.masses = MassesOfRow(backend, shard, *states[i]);
    return states[i]->token.masses.get();
  };
  RETURN_IF_ERROR(DrawByRejection(absl::MakeSpan(rows), masses_of, exchange));
  for (size_t i = 0; i < rows.size(); ++i) {
    states[i]->token.id = rows[i].token;
    if (states[i]->row->rule != DrawRule::kPropose) states[i]->token.masses.reset();
  }
  return absl::OkStatus();
}

}  // namespace krait
