#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/backend.h"
#include "worker/comm/communicator.h"
#include "worker/models/causal_lm.h"
#include "worker/models/model_config.h"
#include "worker/runner/batch_packer.h"
#include "worker/runner/memory_use.h"
#include "worker/sampling/shard_sampler.h"

namespace krait {

class CacheStorage;
class Checkpoint;
class StateStorage;

struct ModelRunnerOptions {
  DType weight_dtype = DType::kBF16;  // kBF16 or kF32
  int page_size = 16;
  int num_pages = 0;
  int num_state_slots = 0;   // sequences at a time, of a model with recurrent layers; else unused
  int max_draft_tokens = 0;  // of a sequence at a time: how long its rings must be
  int max_tokens = 256;      // of one forward pass
  int max_logits = 64;       // rows of one forward pass
  std::function<void(double fraction)> on_progress;  // of loading, 0 to 1; may be empty
};

// One rank: weights, cache storage and the forward pass. It decides nothing and knows no requests;
// a draft is the same class with one rank. Rank thread only.
class ModelRunner {
 public:
  // Loads this rank's share of `checkpoint`. `backend` and `comm` outlive the runner.
  // INVALID_ARGUMENT names file, tensor and reason, or tensor_parallel_size and its limit;
  // RESOURCE_EXHAUSTED names the bytes.
  static absl::StatusOr<std::unique_ptr<ModelRunner>> Create(const ModelRunnerOptions& options,
                                                             const ModelConfig& config,
                                                             const Checkpoint& checkpoint,
                                                             Backend* backend, Communicator* comm);
  ~ModelRunner();

  // Runs `rows` (at least one; at most max_tokens tokens and max_logits logits in all) and returns
  // the logits [sum of num_logits, vocab of this rank] f32, valid until the next call and free to
  // be overwritten. UNAVAILABLE if a peer is lost.
  //
  // With `draws`, one for each row of logits, the pass also draws, on the device: drawn() then
  // holds a token for each. The next pass may begin before anybody has read them
  // (BatchRow::pending_draw). Of a group of one rank only.
  absl::StatusOr<TensorView> Forward(absl::Span<const BatchRow> rows,
                                     absl::Span<const DrawChoice> draws = {});
  TensorView drawn() const;  // [max_logits], i32, of the device
  // How this rank draws on its device for `params`; nothing if the host has to.
  std::optional<DrawChoice> DrawChoiceFor(const SamplingParams& params) const;

  // Fills freed pages with NaN so that a stale read shows. For invariant builds and tests.
  void PoisonPages(absl::Span<const PageId> pages);
  void PoisonState(StateSlotId slot);  // kNullSlot: nothing

  const ModelRunnerOptions& options() const;
  const VocabShard& vocab_shard() const;
  int64_t vocab_size() const;  // of the ids that go in
  // A sequence's positions are below this: the model's context, or what all pages hold if less.
  int max_positions() const;
  Backend* backend() const;
  Communicator* comm() const;
  // Read by every forward pass whatever its rows: this rank's weights.
  int64_t weight_bytes() const;
  MemoryUse memory() const;
  int64_t kv_bytes_per_token() const;  // of this rank
  // What this rank's recurrent layers keep; empty without such layers.
  const RecurrentStateSpec& state_spec() const;
  int num_state_slots() const;                // 0 without such layers
  const StateTraffic& state_traffic() const;  // of all passes so far
  int64_t num_state_copies() const;
  const StateStorage* TEST_states() const;  // null without recurrent layers

 private:
  ModelRunner();
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace krait
