#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/runner/model_runner.h"
#include "worker/sampling/shard_sampler.h"

namespace krait {

struct DraftModelOptions {
  std::string model_path;
  RopeScalingRule rope_scaling = RopeScalingRule::kByNames;
  Device device;
  int num_threads = 1;
  // num_pages 0: for max_sequences of the model's whole context; num_state_slots 0: max_sequences.
  ModelRunnerOptions runner;
  int max_sequences = 64;  // kept in the cache at a time
  // Whether passes follow each other without the host reading what they draw: by default on a
  // device that works while the host goes on.
  std::optional<bool> chains;
  // Drafts are drawn, and what they were drawn from is kept, for rejection sampling.
  bool for_rejection = false;
  // Of the target; a draft that differs proposes nothing. Empty or 0: not checked.
  std::string tokenizer_digest;
  int vocab_size = 0;
};

// A draft's weights, cache storage and sampler: one rank, on its own backend. One thread at a time.
class DraftModel {
 public:
  // Loads the model. INVALID_ARGUMENT names file, tensor and reason.
  static absl::StatusOr<std::unique_ptr<DraftModel>> Load(const DraftModelOptions& options);

  // Runs `rows` and draws one token for each of `samples`, which belong to the logits in order.
  absl::StatusOr<std::vector<SampledToken>> Run(absl::Span<const BatchRow> rows,
                                                absl::Span<const SampleRow> samples);

  // The same without waiting, for samples that ChoicesOf can tell the device: what pass number
  // `pass` of a chain draws is read by Read, when all of them are started. Up to kMaxChain.
  static constexpr int kMaxChain = 16;
  absl::Status Start(int pass, absl::Span<const BatchRow> rows,
                     absl::Span<const DrawChoice> choices);
  std::vector<TokenId> Read(int pass, int num_draws);
  // How the device draws each; empty if the host has to draw one of them.
  std::vector<DrawChoice> ChoicesOf(absl::Span<const SampleRow> samples) const;
  bool chains() const { return chains_; }

  ModelRunner& runner() { return *runner_; }
  const ModelRunner& runner() const { return *runner_; }

 private:
  DraftModel() = default;

  std::unique_ptr<Backend> backend_;
  std::unique_ptr<Communicator> comm_;
  std::unique_ptr<ModelRunner> runner_;
  std::unique_ptr<ShardSampler> sampler_;
  std::vector<std::unique_ptr<LateRead>> reads_;  // [kMaxChain]
  bool chains_ = false;
};

// Why a draft at `options.model_path` may not propose for this target: "tokenizer_mismatch",
// "token_map", or empty. Errors are those of files that cannot be read.
absl::StatusOr<std::string> CheckDraft(const DraftModelOptions& options);

}  // namespace krait
