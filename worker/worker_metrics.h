#pragma once

#include <array>
#include <map>
#include <string>

#include "common/metrics.h"
#include "worker/engine/engine_interface.h"
#include "worker/engine/engine_observer.h"
#include "worker/memory_metrics.h"

namespace krait {

// Every metric of a target worker, in one place; names as vLLM has them where it has the quantity.
// All series exist at 0 from the start. The On* are called by the engine thread, SetLoad by any.
class WorkerMetrics final : public EngineObserver {
 public:
  static constexpr int kMaxDraftPositions = 15;

  // `metrics` outlives this.
  explicit WorkerMetrics(Metrics* metrics);

  void OnStep(const StepStats& stats) override;
  void OnAccepted(int position, bool accepted) override;
  void OnFirstToken(absl::Duration since_submit) override;
  void OnInterToken(absl::Duration gap) override;
  void OnFinished(const absl::Status& status, FinishReason reason, int prompt_tokens,
                  int completion_tokens, absl::Duration since_submit) override;
  void OnNonFinite() override;

  void SetMemory(const MemoryUse& use) { memory_.SetTotals(use); }
  void SetDraftMemory(const MemoryUse& use) { memory_.SetDraft(use); }
  void SetLoad(const EngineLoad& load);

 private:
  void CountProposals(const ProposalOutcome& proposals);
  void SetDisabledReason(std::string_view reason);

  MemoryMetrics memory_;
  prometheus::Gauge& requests_running_;
  prometheus::Gauge& requests_waiting_;
  prometheus::Gauge& requests_paused_;
  prometheus::Gauge& queued_tokens_;
  prometheus::Gauge& draft_connected_;
  prometheus::Counter& prompt_tokens_;
  prometheus::Counter& generation_tokens_;
  prometheus::Counter& preemptions_;
  prometheus::Counter& recomputed_tokens_;
  prometheus::Counter& steps_;
  prometheus::Histogram& time_to_first_token_;
  prometheus::Histogram& inter_token_;
  prometheus::Histogram& request_latency_;
  prometheus::Histogram& request_prompt_tokens_;
  prometheus::Histogram& request_generation_tokens_;
  prometheus::Histogram& step_;
  prometheus::Histogram& step_tokens_;
  prometheus::Histogram& draft_wait_;
  prometheus::Counter& drafts_;
  prometheus::Counter& draft_tokens_;
  prometheus::Counter& accepted_tokens_;
  prometheus::Counter& nonfinite_rows_;
  std::array<prometheus::Counter*, kMaxDraftPositions> accepted_per_position_;
  std::array<prometheus::Histogram*, 4> phase_;                              // of a step
  std::map<std::string, prometheus::Counter*, std::less<>> finished_;        // by reason
  std::map<std::string, prometheus::Counter*, std::less<>> proposals_;       // by outcome
  std::map<std::string, prometheus::Counter*, std::less<>> disabled_total_;  // times it began
  std::map<std::string, prometheus::Gauge*, std::less<>> disabled_;          // 1 while it lasts
  std::string disabled_reason_;                                              // engine thread only
};

}  // namespace krait
