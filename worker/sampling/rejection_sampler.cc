#include "worker/sampling/rejection_sampler.h"

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "common/rejection_uniforms.h"
#include "common/status_macros.h"

namespace krait {
namespace {

// A row whose token is drawn, from the weights of this rank's ids.
struct Draw {
  VerifiedRow* row = nullptr;
  const TokenMasses* target = nullptr;
  std::vector<uint64_t> residual;  // cumulative; empty: the target's own masses are the weights

  const std::vector<uint64_t>& weights() const {
    return residual.empty() ? target->cumulative : residual;
  }
  uint64_t own() const { return weights().empty() ? 0 : weights().back(); }
};

// p > 0 is part of it: 0 < u q does not hold for every u.
bool Accepts(const VerifiedRow& row) {
  const double p = static_cast<double>(row.target_mass) / static_cast<double>(row.target_total);
  const double q = static_cast<double>(row.draft_masses->MassOf(row.draft)) /
                   static_cast<double>(row.draft_masses->total);
  return row.accept_uniform * q < p;
}

// max(p - q, 0) in units of 2^-62, added up. The same quotients decided the acceptance, so a draft
// that was refused weighs nothing.
std::vector<uint64_t> Residual(const TokenMasses& target, const TokenMasses& draft) {
  std::vector<uint64_t> weights(target.ids.size());
  if (weights.empty()) return weights;
  size_t d =
      std::lower_bound(draft.ids.begin(), draft.ids.end(), target.ids[0]) - draft.ids.begin();
  uint64_t sum = 0;
  for (size_t i = 0; i < weights.size(); ++i) {
    while (d < draft.ids.size() && draft.ids[d] < target.ids[i]) ++d;
    const bool drafted = d < draft.ids.size() && draft.ids[d] == target.ids[i];
    const double rest = target.prob(i) - (drafted ? draft.prob(d) : 0);
    if (rest > 0) sum += static_cast<uint64_t>(rest * 0x1p62);
    weights[i] = sum;
  }
  return weights;
}

// Marks what is accepted; the rows at which a token is to be drawn, one a verification at most.
std::vector<VerifiedRow*> Accept(absl::Span<VerifiedRow> rows) {
  std::vector<VerifiedRow*> drawing;
  bool ended = false;  // the verification that the row belongs to
  for (VerifiedRow& row : rows) {
    const bool last = row.draft == kNoToken;
    if (!ended) {
      const bool accepted = row.finite && !last && Accepts(row);
      if (accepted) row.token = row.draft;
      if (!accepted && row.finite) drawing.push_back(&row);
      ended = !accepted;
    }
    if (last) ended = false;
  }
  return drawing;
}

// What one rank has of the weights of a draw.
struct Part {
  int64_t first_id = 0;  // the parts' order; whose part is empty has weights 0
  uint64_t residual = 0;
  uint64_t target = 0;
};

// Where, in this rank's weights, the drawn token lies; nothing if it is another rank's. Leaves the
// target's masses as weights where rounding has left no residual at all: then p and q are the same.
std::optional<uint64_t> OffsetIn(Draw& draw, int64_t own_first_id, absl::Span<const Part> parts) {
  uint64_t residual = 0, target = 0;
  for (const Part& part : parts) {
    residual += part.residual;
    target += part.target;
  }
  const bool replaces = residual > 0;
  if (!replaces) draw.residual.clear();
  uint64_t offset = ScaleBits(draw.row->token_bits, replaces ? residual : target);
  for (const Part& part : parts) {
    if (part.first_id >= own_first_id) continue;
    const uint64_t before = replaces ? part.residual : part.target;
    if (offset < before) return std::nullopt;
    offset -= before;
  }
  return offset < draw.own() ? std::optional(offset) : std::nullopt;
}

Part PartOf(const Draw& draw) {
  const bool replaces = !draw.residual.empty();
  return {.first_id = draw.target->ids.empty() ? 0 : draw.target->ids[0],
          .residual = replaces ? draw.residual.back() : 0,
          .target = draw.target->own()};
}

// The drawn token of each draw of this rank's, kNoToken where it is another's.
absl::StatusOr<std::vector<TokenId>> PickOwn(std::vector<Draw>& draws,
                                             const ShardExchange& exchange) {
  std::vector<Part> sent;
  for (const Draw& draw : draws) sent.push_back(PartOf(draw));
  ASSIGN_OR_RETURN(const std::vector<Part> all, exchange.GatherItems(sent));
  std::vector<TokenId> picked(draws.size(), kNoToken);
  std::vector<Part> parts(exchange.num_ranks());
  for (size_t i = 0; i < draws.size(); ++i) {
    for (size_t rank = 0; rank < parts.size(); ++rank) parts[rank] = all[rank * draws.size() + i];
    const std::optional<uint64_t> offset = OffsetIn(draws[i], sent[i].first_id, parts);
    if (!offset.has_value()) continue;
    const std::vector<uint64_t>& weights = draws[i].weights();
    picked[i] = draws[i].target->ids[std::upper_bound(weights.begin(), weights.end(), *offset) -
                                     weights.begin()];
  }
  return picked;
}

}  // namespace

absl::Status DrawByRejection(absl::Span<VerifiedRow> rows, TargetMasses target_masses,
                             const ShardExchange& exchange) {
  std::vector<Draw> draws;
  for (VerifiedRow* row : Accept(rows)) {
    Draw& draw = draws.emplace_back(Draw{row, target_masses(row - rows.data()), {}});
    if (row->draft != kNoToken) draw.residual = Residual(*draw.target, *row->draft_masses);
  }
  ASSIGN_OR_RETURN(const std::vector<TokenId> picked, PickOwn(draws, exchange));
  ASSIGN_OR_RETURN(const std::vector<TokenId> all, exchange.GatherItems(picked));
  for (int rank = 0; rank < exchange.num_ranks(); ++rank) {
    for (size_t i = 0; i < draws.size(); ++i) {
      draws[i].row->token = std::max(draws[i].row->token, all[rank * draws.size() + i]);
    }
  }
  return absl::OkStatus();
}

}  // namespace krait
