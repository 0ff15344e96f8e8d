#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/request_limits.h"
#include "coordinator/server/text_model.h"
#include "krait/internal/v1/worker.pb.h"
#include "krait/v1/generation.pb.h"

namespace krait {

// A client's request, checked and turned into tokens; what a worker is asked, but for its id, epoch
// and deadline, which are an attempt's.
struct PreparedRequest {
  std::string request_id;                   // the client's
  internal::v1::GenerateRequest to_worker;  // every sampling field set, stop strings taken out
  std::vector<std::string> stops;
  bool default_max_tokens = false;  // the client named none
  bool continues_text = false;      // a prompt goes on, a chat's reply begins

  int num_prompt_tokens() const { return to_worker.prompt_token_ids_size(); }
  int num_choices() const { return to_worker.sampling().n(); }
  // What it may come to hold: prompt + max_tokens, for each choice.
  int64_t num_tokens() const {
    return int64_t{num_choices()} * (num_prompt_tokens() + to_worker.sampling().max_tokens());
  }
};

// Checks every field against `limits`, encodes the input, fills in defaults, draws the seed if the
// client gave none. INVALID_ARGUMENT names field and limit.
absl::StatusOr<PreparedRequest> PrepareRequest(const v1::GenerateRequest& request,
                                               const TextModel& model, const ModelLimits& limits);

// Fits a prepared request to the worker it is placed on, whose limits may be tighter than those
// known before. INVALID_ARGUMENT names field and limit.
absl::Status FitToLimits(const ModelLimits& limits, PreparedRequest& request);

// 64 random bits from the kernel.
uint64_t RandomBits();

}  // namespace krait
