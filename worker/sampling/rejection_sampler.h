#pragma once

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/types/span.h"
#include "worker/sampling/shard_exchange.h"
#include "worker/sampling/token_masses.h"

namespace krait {

// One position of a verification. Positions of one verification follow each other, up to the first
// without a draft.
struct VerifiedRow {
  TokenId draft = kNoToken;                   // proposed for this position; none after the last
  const TokenMasses* draft_masses = nullptr;  // of the whole vocabulary: what it was drawn from
  uint64_t target_mass = 0;                   // of the draft, all ranks'
  uint64_t target_total = 1;                  // of all tokens, all ranks'
  double accept_uniform = 0;                  // in [0, 1)
  uint64_t token_bits = 0;                    // any 64 bits, as likely as any other
  bool finite = true;        // false: nothing can be drawn here, and the verification ends
  TokenId token = kNoToken;  // out: what is emitted here; rows after the emitted ones have none
};

// This rank's part of what the target gives for a row; for the rows where a token is drawn. Valid
// until all are drawn.
using TargetMasses = absl::FunctionRef<const TokenMasses*(size_t row)>;

// Rejection sampling of drafts (Leviathan et al. 2023; Chen et al. 2023). With p the target's
// distribution of a row and q the draft's, a draft x drawn from q is accepted with probability
// min(1, p(x) / q(x)). The first that is not is replaced by a token drawn from max(p - q, 0),
// normalized; after the last draft a token is drawn from p. So each token's law is p whatever q is:
// min(p, q) comes from accepting, the rest of p from replacing.
//
// All ranks call it with the same rows and come to the same tokens. Fails only if the gather fails.
absl::Status DrawByRejection(absl::Span<VerifiedRow> rows, TargetMasses target_masses,
                             const ShardExchange& exchange);

}  // namespace krait
