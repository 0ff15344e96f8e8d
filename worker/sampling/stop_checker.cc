#include "worker/sampling/stop_checker.h"

#include <algorithm>

namespace krait {

StopChecker::StopChecker(const StopParams& params)
    : max_tokens_(params.max_tokens), stop_ids_(params.stop_token_ids) {
  stop_ids_.insert(stop_ids_.end(), params.eos_ids.begin(), params.eos_ids.end());
  std::sort(stop_ids_.begin(), stop_ids_.end());
}

StopDecision StopChecker::Check(int num_generated, absl::Span<const TokenId> drawn) const {
  StopDecision decision;
  for (TokenId id : drawn) {
    ++decision.num_tokens;
    if (std::binary_search(stop_ids_.begin(), stop_ids_.end(), id)) {
      decision.cause = StopCause::kStopToken;
    } else if (num_generated + decision.num_tokens >= max_tokens_) {
      decision.cause = StopCause::kMaxTokens;
    }
    if (decision.cause != StopCause::kNone) break;
  }
  return decision;
}

}  // namespace krait
