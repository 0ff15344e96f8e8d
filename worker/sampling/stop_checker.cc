#include "worker/sampling/stop_checker.h"

#include <algorithm>

namespace krait {

std::vector<TokenId> EndIds(const StopParams& params) {
  std::vector<TokenId> ids = params.stop_token_ids;
  ids.insert(ids.end(), params.eos_ids.begin(), params.eos_ids.end());
  std::sort(ids.begin(), ids.end());
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  return ids;
}

StopChecker::StopChecker(const StopParams& params)
    : max_tokens_(params.max_tokens), end_ids_(EndIds(params)) {}

StopDecision StopChecker::Check(int num_generated, absl::Span<const TokenId> drawn) const {
  StopDecision decision;
  for (TokenId id : drawn) {
    ++decision.num_tokens;
    if (std::binary_search(end_ids_.begin(), end_ids_.end(), id)) {
      decision.cause = StopCause::kStopToken;
    } else if (num_generated + decision.num_tokens >= max_tokens_) {
      decision.cause = StopCause::kMaxTokens;
    }
    if (decision.cause != StopCause::kNone) break;
  }
  return decision;
}

}  // namespace krait
