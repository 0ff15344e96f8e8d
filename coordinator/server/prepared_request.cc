#include "coordinator/server/prepared_request.h"

#include <sys/random.h>

#include "common/field_error.h"
#include "common/logging.h"
#include "common/status_macros.h"

namespace krait {
namespace {

absl::StatusOr<std::vector<TokenId>> EncodeInput(const v1::GenerateRequest& request,
                                                 const TextModel& model) {
  switch (request.input_case()) {
    case v1::GenerateRequest::kPrompt:
      return model.EncodePrompt(request.prompt(), request.allow_special_tokens());
    case v1::GenerateRequest::kChat:
      return model.EncodeChat(request.chat(), request.allow_special_tokens());
    case v1::GenerateRequest::kPromptTokenIds:
      return std::vector<TokenId>(request.prompt_token_ids().ids().begin(),
                                  request.prompt_token_ids().ids().end());
    case v1::GenerateRequest::INPUT_NOT_SET:
      break;
  }
  return FieldError("input", "one of prompt, chat and prompt_token_ids must be set");
}

}  // namespace

absl::StatusOr<PreparedRequest> PrepareRequest(const v1::GenerateRequest& request,
                                               const TextModel& model, const ModelLimits& limits) {
  RETURN_IF_ERROR(CheckSampling(request.sampling(), limits));
  if (request.has_max_draft_tokens()) {
    RETURN_IF_ERROR(CheckMaxDraftTokens(request.max_draft_tokens()));
  }
  ASSIGN_OR_RETURN(const std::vector<TokenId> ids, EncodeInput(request, model));
  PreparedRequest prepared;
  auto& to_worker = prepared.to_worker;
  prepared.request_id = request.request_id();
  to_worker.mutable_prompt_token_ids()->Add(ids.begin(), ids.end());
  v1::SamplingParams& sampling = *to_worker.mutable_sampling();
  sampling = request.sampling();
  prepared.stops.assign(sampling.stop().begin(), sampling.stop().end());
  prepared.continues_text = !request.has_chat();
  prepared.default_max_tokens = !sampling.has_max_tokens();
  sampling.clear_stop();
  if (!sampling.has_seed()) sampling.set_seed(RandomBits());
  if (request.has_max_draft_tokens()) to_worker.set_max_draft_tokens(request.max_draft_tokens());
  RETURN_IF_ERROR(FitToLimits(limits, prepared));
  return prepared;
}

absl::Status FitToLimits(const ModelLimits& limits, PreparedRequest& request) {
  v1::SamplingParams& sampling = *request.to_worker.mutable_sampling();
  if (request.default_max_tokens) sampling.clear_max_tokens();
  RETURN_IF_ERROR(CheckSampling(sampling, limits));
  RETURN_IF_ERROR(CheckPromptTokenIds(request.to_worker.prompt_token_ids(), limits));
  return FillSampling(request.num_prompt_tokens(), limits, sampling);
}

uint64_t RandomBits() {
  uint64_t bits = 0;
  CHECK_EQ(getrandom(&bits, sizeof(bits), 0), static_cast<ssize_t>(sizeof(bits)));
  return bits;
}

}  // namespace krait
