#pragma once

#include <vector>

#include "absl/types/span.h"
#include "common/token.h"
#include "worker/sampling/sampling_params.h"

namespace krait {

enum class StopCause { kNone, kStopToken, kMaxTokens };

struct StopDecision {
  StopCause cause = StopCause::kNone;
  int num_tokens = 0;  // of the new ones that belong to the output, a stop token included
};

// The ids that end a generation: stop and end-of-sequence ids, rising, each once.
std::vector<TokenId> EndIds(const StopParams& params);

// Looks at tokens drawn in one step, in order, and says where the generation ends: at the first
// end-of-sequence or stop id, or at max_tokens. What follows is to be cut off. Stop strings need
// text and are not this class's matter.
class StopChecker {
 public:
  explicit StopChecker(const StopParams& params);

  // `num_generated` tokens came before `drawn`.
  StopDecision Check(int num_generated, absl::Span<const TokenId> drawn) const;

 private:
  const int max_tokens_;
  const std::vector<TokenId> end_ids_;
};

}  // namespace krait
