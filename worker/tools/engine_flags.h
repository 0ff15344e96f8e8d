#pragma once

// What `generate` and `bench decode` have in common: an engine of this process, without RPC.

#include <CLI/CLI.hpp>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "worker/engine/engine.h"

namespace krait {

struct EngineFlags {
  EngineConfig config;  // without num_pages and max_running
  std::string draft;    // "none", "ngram", a path, or a word of the caller's own
};

// Declares --model --tp --threads --device --comm --weight-dtype --max-num-batched-tokens --draft --draft-tokens
// and sets their defaults; parsing fills `flags`, which must outlive `app`.
void AddEngineOptions(CLI::App& app, EngineFlags& flags);

// The proposer that `flags.draft` names, for up to `max_running` sequences; null for "none".
absl::StatusOr<std::unique_ptr<Proposer>> MakeProposerOf(const EngineFlags& flags,
                                                         const Clock* clock);

}  // namespace krait
