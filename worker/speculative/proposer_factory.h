#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "common/clock.h"
#include "worker/speculative/draft_model.h"
#include "worker/speculative/proposer.h"

namespace krait {

struct ProposerOptions {
  std::string kind;         // "none", "ngram" or "draft_model"
  DraftModelOptions draft;  // for "draft_model"
};

// The proposers that live in the target's process; null for "none". INVALID_ARGUMENT names an
// unknown kind, or what of the draft's files is wrong. `clock` outlives the proposer.
absl::StatusOr<std::unique_ptr<Proposer>> MakeProposer(const ProposerOptions& options,
                                                       const Clock* clock);

}  // namespace krait
