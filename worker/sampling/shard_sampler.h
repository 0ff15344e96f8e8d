#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/token.h"
#include "kernels/backend.h"
#include "kernels/ops/draw_tokens.h"
#include "worker/sampling/sampling_params.h"
#include "worker/sampling/token_masses.h"

namespace krait {

// The part of the vocabulary whose logits a rank computes.
struct VocabShard {
  TokenId begin = 0;
  TokenId end = 0;
  // Empty for a contiguous shard; else the target id of each row (a draft's reduced head),
  // increasing.
  std::vector<TokenId> ids;

  int64_t size() const { return ids.empty() ? end - begin : static_cast<int64_t>(ids.size()); }
  bool Contains(TokenId id) const {
    return ids.empty() ? id >= begin && id < end : std::binary_search(ids.begin(), ids.end(), id);
  }
};

// How a row's token is drawn.
enum class DrawRule {
  kGumbel,   // the target's way, and that of a draft whose tokens are compared with the target's
  kPropose,  // a draft's way for rejection sampling: by its masses, which are kept
  kVerify,   // the target's, of such a draft (rejection_sampler.h)
};

// One logits row to draw from. History-dependent processors see history + drafts: for row j of a
// verification `drafts` holds drafts 1..j, which is exactly the history of plain decoding whenever
// the row counts.
struct SampleRow {
  const SamplingParams* params = nullptr;
  absl::Span<const TokenId> history;  // prompt and committed output
  int prompt_tokens = 0;              // of history
  absl::Span<const TokenId> drafts;
  int64_t logits_row = -1;  // of the logits; -1: as many as rows come before it
  // Greedy rows know but one rule.
  DrawRule rule = DrawRule::kGumbel;
  // kVerify: what was proposed for this row, and drawn from what. Rows of one verification follow
  // each other, up to the first without a draft.
  TokenId draft = kNoToken;
  SharedMasses draft_masses;
};

struct SampledToken {
  // kNoToken: the row was not finite, or comes after a draft that was refused.
  TokenId id = kNoToken;
  bool finite = true;         // false: the row held NaN or infinity
  PositionLogprobs logprobs;  // if asked for
  SharedMasses masses;        // kPropose: what it was drawn from; of one rank only
};

// Draws one token a row from logits that are spread over ranks. All ranks call it with the same
// rows and come to the same tokens: each reduces its shard to a few numbers, and these are
// gathered.
//
// The token at absolute position t = history + drafts is argmax_i(z_i + G_i) with
// z_i = (l_i - max l) / T over the processed logits and G from (seed; t, i, choice): so it depends
// neither on the draft, nor on batch mates, nor on the number of ranks (arXiv 2408.07978).
// Order: logit_bias and the min_tokens mask, penalties, temperature, min_p, top_k, top_p. The other
// rules draw from the same distribution with other random numbers (common/rejection_uniforms.h).
class ShardSampler {
 public:
  // Collects `send` of every rank, in rank order, into `recv` (ranks * send.size() bytes).
  using Gather =
      absl::FunctionRef<absl::Status(absl::Span<const std::byte> send, absl::Span<std::byte> recv)>;

  // `backend` outlives this. Rank thread only.
  ShardSampler(Backend* backend, VocabShard shard, int num_ranks);

  // `logits` [at least rows.size(), shard.size()] f32, of the backend's device; those of `rows` are
  // overwritten. Fails only if `gather` fails.
  absl::StatusOr<std::vector<SampledToken>> Sample(const TensorView& logits,
                                                   absl::Span<const SampleRow> rows, Gather gather);

 private:
  Backend* const backend_;
  // For lists of candidates, which lie on the host: the same bits on every device.
  const std::unique_ptr<Backend> host_;
  const VocabShard shard_;
  const int num_ranks_;
};

}  // namespace krait
