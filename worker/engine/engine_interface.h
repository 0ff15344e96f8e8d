#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "common/token.h"
#include "worker/sampling/sampling_params.h"

namespace krait {

enum class FinishReason { kNone, kStop, kLength };

struct SpeculationCounts {
  int64_t proposed = 0;  // drafts verified
  int64_t accepted = 0;
  int64_t rounds = 0;  // steps that verified at least one draft
};

// Some tokens of one choice; its last event has a finish reason.
struct TokenEvent {
  int choice = 0;  // 0 to num_choices - 1
  int32_t first_index = 0;
  std::vector<TokenId> token_ids;
  std::vector<PositionLogprobs> logprobs;  // one a token, if asked for
  FinishReason finish_reason = FinishReason::kNone;
  SpeculationCounts speculation;  // so far
};

// Receives one request's choices, their events in any order among each other. Called by the engine
// thread, which must not wait: implementations queue, and Pause the request when they have too
// much.
class TokenSink {
 public:
  virtual ~TokenSink() = default;
  virtual void OnTokens(TokenEvent event) = 0;
  // Last call: OK after every choice had an event with a finish reason or was stopped (StopChoice),
  // then without such an event; else why all ended early
  // (CANCELLED, DEADLINE_EXCEEDED, INTERNAL for non-finite logits, UNAVAILABLE, RESOURCE_EXHAUSTED
  // if it was paused for too long). Until it returns the request's id is not free: it must not
  // submit another request.
  virtual void OnEnd(const absl::Status& status) = 0;
};

struct GenerationRequest {
  std::string request_id;
  std::vector<TokenId> prompt;  // at least one id
  SamplingParams sampling;      // end_ids are the engine's to fill, from `stop`
  StopParams stop;
  // Drawn from the same prompt, with the noise of sampling.choice and those after it. They start
  // together; what ends one early ends all.
  int num_choices = 1;
  std::optional<int> max_draft_tokens;  // absent: the worker's own limit; 0: no speculation
  absl::Duration deadline = absl::InfiniteDuration();  // on the engine's clock (Clock::Now)
};

struct EngineLoad {
  int running = 0;
  int waiting = 0;
  int paused = 0;
  int max_running = 0;
  int max_waiting = 0;
  int64_t pages_used = 0;
  int64_t pages_total = 0;
  int64_t state_slots_used = 0;  // of a model with recurrent layers
  int64_t queued_tokens = 0;     // prompt tokens not yet prefilled
  bool draft_connected = false;
};

// A running engine as its server sees it. Thread-safe; no call waits for a step. An id means one
// request until its OnEnd has returned: what is said of it before never reaches the next of that
// id.
class EngineInterface {
 public:
  virtual ~EngineInterface() = default;

  // Takes the request, or says why not and never calls `sink`: INVALID_ARGUMENT (field and limit),
  // RESOURCE_EXHAUSTED (queue full), UNAVAILABLE (draining), ALREADY_EXISTS (a live request id).
  virtual absl::Status Submit(GenerationRequest request, std::shared_ptr<TokenSink> sink) = 0;
  // Ends a live request with `reason` within one step; unknown ids are ignored.
  virtual void Abort(const std::string& request_id, absl::Status reason) = 0;
  // The choice of a live request draws no more and counts as finished; the others go on. No effect
  // on what is unknown or has finished.
  virtual void StopChoice(const std::string& request_id, int choice) = 0;
  // No step of a live request's from the next one on, until Resume: its reader has enough. It keeps
  // its pages while nobody needs them, and ends with RESOURCE_EXHAUSTED if for the engine's limit
  // neither Resume nor another Pause (the reader takes something, if slowly) comes. Called from
  // OnTokens, the event at hand is the last one, but for that of a step that has already begun. No
  // effect on unknown ids.
  virtual void Pause(const std::string& request_id) = 0;
  virtual void Resume(const std::string& request_id) = 0;
  // No new requests from now on; what was accepted goes on.
  virtual void Drain() = 0;
  // True once nothing runs or waits, at most `timeout` later.
  virtual bool WaitIdle(absl::Duration timeout) = 0;
  virtual EngineLoad Load() const = 0;
};

}  // namespace krait
