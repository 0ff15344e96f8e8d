#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/clock.h"
#include "worker/engine/engine_interface.h"
#include "worker/engine/engine_observer.h"
#include "worker/runner/rank_group.h"
#include "worker/speculative/proposer.h"
#include "worker/speculative/step_executor.h"

namespace krait {

struct EngineConfig {
  RankGroupOptions group;
  std::vector<TokenId> eos_ids;
  int max_context_tokens = 0;  // 0: the model's own
  int max_running = 64;
  int max_waiting = 256;             // beyond those that run
  int max_num_batched_tokens = 256;  // of one step; at least max_running
  // Output tokens whose pages are set aside when a sequence is admitted; beyond them it grows page
  // by page and may be preempted.
  int reserved_output_tokens = 1024;
  int max_draft_tokens = 4;
  int num_state_slots = 0;          // of a model with recurrent layers; 0: max_running
  bool fixed_draft_tokens = false;  // do not adapt K
  absl::Duration proposal_deadline = absl::ZeroDuration();  // zero: max(5 ms, half a median step)
  absl::Duration step_deadline = absl::Seconds(60);
  absl::Duration slow_reader_timeout = absl::Seconds(30);  // of a paused request
};

// Owns the engine thread and everything below it. Create returns after the weights are loaded and a
// one-token step has run on all ranks.
class Engine final : public EngineInterface {
 public:
  // `proposer` may be null (no speculation). `clock` and `observer` outlive the engine. `on_fatal`
  // is called once, on the engine thread, when a step fails or outlives its deadline (the process
  // must end); every live request has then been ended with UNAVAILABLE.
  static absl::StatusOr<std::unique_ptr<Engine>> Create(
      const EngineConfig& config, std::unique_ptr<Proposer> proposer, const Clock* clock,
      EngineObserver* observer, std::function<void(const absl::Status&)> on_fatal);
  // The same with another executor than a RankGroup; `make_executor` runs on the engine thread.
  using MakeExecutor = std::function<absl::StatusOr<std::unique_ptr<StepExecutor>>()>;
  static absl::StatusOr<std::unique_ptr<Engine>> CreateWith(
      const EngineConfig& config, MakeExecutor make_executor, std::unique_ptr<Proposer> proposer,
      const Clock* clock, EngineObserver* observer,
      std::function<void(const absl::Status&)> on_fatal);
  ~Engine() override;  // ends what is live with UNAVAILABLE, then joins

  absl::Status Submit(GenerationRequest request, std::shared_ptr<TokenSink> sink) override;
  void Abort(const std::string& request_id, absl::Status reason) override;
  void StopChoice(const std::string& request_id, int choice) override;
  void Pause(const std::string& request_id) override;
  void Resume(const std::string& request_id) override;
  void Drain() override;
  bool WaitIdle(absl::Duration timeout) override;
  EngineLoad Load() const override;

  // Only of an engine made by Create. Its accessors are constant and may be read by any thread.
  const RankGroup& group() const;
  int vocab_size() const;
  int max_context_tokens() const;

 private:
  Engine();
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace krait
