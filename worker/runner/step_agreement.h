#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "worker/comm/communicator.h"

namespace krait {

// What every rank must hold alike when a step begins.
struct StepFingerprint {
  int64_t step_id = 0;
  uint64_t plan_hash = 0;
  uint64_t previous_tokens_hash = 0;  // of the draws of the step before: hence one step late

  bool operator==(const StepFingerprint&) const = default;
};

// Compares the ranks' fingerprints: the first exchange of a step, before anything is changed. Rank
// thread only.
class StepAgreement {
 public:
  // `comm` outlives this.
  explicit StepAgreement(Communicator* comm);

  // INTERNAL, on every rank and naming the first that differs from rank 0, unless all are equal.
  // UNAVAILABLE if a peer is lost.
  absl::Status Check(const StepFingerprint& mine);

 private:
  Communicator* const comm_;
  std::vector<StepFingerprint> all_;  // by rank
};

}  // namespace krait
