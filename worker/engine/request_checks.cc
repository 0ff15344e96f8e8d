#include "worker/engine/request_checks.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "common/field_error.h"
#include "common/request_limits.h"
#include "common/status_macros.h"

namespace krait {
namespace {

// Written so that NaN fails.
absl::Status CheckRange(const char* field, double value, double low, double high) {
  if (value >= low && value <= high) return absl::OkStatus();
  return FieldError(field, absl::StrCat("must be in [", low, ", ", high, "], got ", value));
}

absl::Status CheckIds(const char* field, const std::vector<TokenId>& ids, int vocab_size) {
  for (TokenId id : ids) {
    if (id < 0 || id >= vocab_size) {
      return FieldError(field,
                        absl::StrCat("token id must be in [0, ", vocab_size - 1, "], got ", id));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckBias(const std::vector<LogitBias>& entries, int vocab_size) {
  if (entries.size() > kMaxLogitBiases) {
    return FieldError("logit_bias", absl::StrCat("must have at most ", kMaxLogitBiases,
                                                 " entries, got ", entries.size()));
  }
  TokenId previous = -1;
  for (const LogitBias& entry : entries) {
    RETURN_IF_ERROR(CheckIds("logit_bias", {entry.id}, vocab_size));
    RETURN_IF_ERROR(CheckRange("logit_bias", entry.bias, -kMaxLogitBias, kMaxLogitBias));
    if (entry.id <= previous) return FieldError("logit_bias", "token ids must rise");
    previous = entry.id;
  }
  return absl::OkStatus();
}

absl::Status CheckSampling(const SamplingParams& sampling, int vocab_size) {
  RETURN_IF_ERROR(CheckRange("temperature", sampling.temperature, 0, 100));
  RETURN_IF_ERROR(CheckRange("top_k", sampling.top_k, 0, vocab_size));
  RETURN_IF_ERROR(CheckRange("top_p", sampling.top_p, 1e-9, 1));
  RETURN_IF_ERROR(CheckRange("min_p", sampling.min_p, 0, 1));
  RETURN_IF_ERROR(CheckRange("repetition_penalty", sampling.repetition_penalty, 1e-3, 10));
  RETURN_IF_ERROR(CheckRange("presence_penalty", sampling.presence_penalty, -2, 2));
  RETURN_IF_ERROR(CheckRange("frequency_penalty", sampling.frequency_penalty, -2, 2));
  RETURN_IF_ERROR(CheckBias(sampling.logit_bias, vocab_size));
  return CheckRange("logprobs", sampling.num_logprobs, -1, kMaxTopLogprobs);
}

absl::Status CheckEnds(const GenerationRequest& request, int vocab_size) {
  const std::vector<TokenId>& stop_ids = request.stop.stop_token_ids;
  RETURN_IF_ERROR(CheckIds("stop_token_ids", stop_ids, vocab_size));
  if (stop_ids.size() > kMaxStopTokenIds) {
    return FieldError("stop_token_ids", absl::StrCat("must have at most ", kMaxStopTokenIds,
                                                     " entries, got ", stop_ids.size()));
  }
  RETURN_IF_ERROR(
      CheckRange("min_tokens", request.sampling.min_tokens, 0, request.stop.max_tokens));
  if (static_cast<int>(request.sampling.end_ids.size()) < vocab_size) return absl::OkStatus();
  return FieldError("min_tokens",
                    absl::StrCat("must be 0 where every one of the ", vocab_size,
                                 " tokens ends the generation, got ", request.sampling.min_tokens));
}

absl::Status CheckLength(const GenerationRequest& request, int max_context_tokens) {
  const auto prompt_tokens = static_cast<int64_t>(request.prompt.size());
  if (prompt_tokens == 0) return FieldError("prompt", "must hold at least one token");
  if (prompt_tokens >= max_context_tokens) {
    return FieldError("prompt", absl::StrCat("must be shorter than the context of ",
                                             max_context_tokens, " tokens, got ", prompt_tokens));
  }
  if (request.stop.max_tokens < 1) {
    return FieldError("max_tokens",
                      absl::StrCat("must be at least 1, got ", request.stop.max_tokens));
  }
  const int64_t room = max_context_tokens - prompt_tokens;
  if (request.stop.max_tokens > room) {
    return FieldError("max_tokens",
                      absl::StrCat("must be at most ", room, ", what a context of ",
                                   max_context_tokens, " tokens leaves after a prompt of ",
                                   prompt_tokens, ", got ", request.stop.max_tokens));
  }
  return absl::OkStatus();
}

absl::Status CheckChoices(int num_choices, const RequestBounds& bounds) {
  RETURN_IF_ERROR(CheckRange("n", num_choices, 1, kMaxChoices));
  if (num_choices <= bounds.max_running) return absl::OkStatus();
  return FieldError("n", absl::StrCat("must be at most max_running = ", bounds.max_running,
                                      ", got ", num_choices));
}

}  // namespace

absl::Status CheckRequest(const GenerationRequest& request, const RequestBounds& bounds) {
  if (request.request_id.empty()) return FieldError("request_id", "must not be empty");
  RETURN_IF_ERROR(CheckChoices(request.num_choices, bounds));
  RETURN_IF_ERROR(CheckLength(request, bounds.max_context_tokens));
  RETURN_IF_ERROR(CheckIds("prompt", request.prompt, bounds.vocab_size));
  RETURN_IF_ERROR(CheckEnds(request, bounds.vocab_size));
  RETURN_IF_ERROR(CheckSampling(request.sampling, bounds.vocab_size));
  if (request.max_draft_tokens.value_or(0) < 0) {
    return FieldError("max_draft_tokens",
                      absl::StrCat("must be at least 0, got ", *request.max_draft_tokens));
  }
  return absl::OkStatus();
}

}  // namespace krait
