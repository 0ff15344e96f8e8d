#pragma once

#include "worker/engine/engine_observer.h"

namespace krait {

// Counts nothing.
class NullObserver : public EngineObserver {
 public:
  void OnStep(const StepStats& stats) override {}
  void OnAccepted(int position, bool accepted) override {}
  void OnFirstToken(absl::Duration since_submit) override {}
  void OnInterToken(absl::Duration gap) override {}
  void OnFinished(const absl::Status& status, FinishReason reason, int prompt_tokens,
                  int completion_tokens, absl::Duration since_submit) override {}
  void OnNonFinite() override {}
};

}  // namespace krait
