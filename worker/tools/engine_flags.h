#pragma once

// What `generate` and `bench decode` have in common: an engine of this process, without RPC.

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/engine/engine.h"
#include "worker/tools/command_line.h"

namespace krait {

extern const std::vector<std::string> kEngineOptions;  // of ParseCommandLine
extern const char kEngineUsage[];

// Values of options; INVALID_ARGUMENT names the option and its value.
absl::StatusOr<int64_t> IntOption(const CommandLine& line, const std::string& name,
                                  int64_t otherwise, int64_t low, int64_t high);
absl::StatusOr<double> DoubleOption(const CommandLine& line, const std::string& name,
                                    double otherwise);

struct EngineFlags {
  EngineConfig config;  // without num_pages and max_running
  std::string draft;    // "none", "ngram", a path, or a word of the caller's own
};

// Reads --model --tp --threads --weight-dtype --max-num-batched-tokens --draft --draft-tokens.
absl::StatusOr<EngineFlags> ReadEngineFlags(const CommandLine& line);

// The proposer that `flags.draft` names, for up to `max_running` sequences; null for "none".
absl::StatusOr<std::unique_ptr<Proposer>> MakeProposerOf(const EngineFlags& flags,
                                                         const Clock* clock);

}  // namespace krait
