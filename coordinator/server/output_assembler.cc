#include "coordinator/server/output_assembler.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace krait {

using internal::v1::TokenChunk;

absl::StatusOr<OutputAssembler> OutputAssembler::Create(const TextModel& model,
                                                        const PreparedRequest& request,
                                                        int choice) {
  ASSIGN_OR_RETURN(auto detokenizer,
                   IncrementalDetokenizer::Create(
                       model.tokenizer(), {.stops = request.stops,
                                           .min_tokens = request.to_worker.sampling().min_tokens(),
                                           .continues_text = request.continues_text}));
  return OutputAssembler(model, request, choice, std::move(detokenizer));
}

OutputAssembler::OutputAssembler(const TextModel& model, const PreparedRequest& request, int choice,
                                 IncrementalDetokenizer detokenizer)
    : model_(&model),
      request_id_(request.request_id),
      choice_(choice),
      stops_(request.stops),
      stop_token_ids_(request.to_worker.sampling().stop_token_ids().begin(),
                      request.to_worker.sampling().stop_token_ids().end()),
      ignore_eos_(request.to_worker.sampling().ignore_eos()),
      wants_logprobs_(request.to_worker.sampling().has_logprobs()),
      num_prompt_tokens_(request.num_prompt_tokens()),
      max_tokens_(request.to_worker.sampling().max_tokens()),
      detokenizer_(std::move(detokenizer)) {}

absl::StatusOr<std::optional<v1::GenerateResponse>> OutputAssembler::Accept(
    const TokenChunk& chunk) {
  RETURN_IF_ERROR(Check(chunk));
  speculation_ = chunk.speculation();
  const int num_known = std::min(num_tokens_ - chunk.first_index(), chunk.token_ids_size());
  num_duplicates_ += num_known;
  v1::GenerateResponse response;
  response.set_request_id(request_id_);
  response.set_index(choice_);
  response.set_first_index(num_tokens_);
  for (int i = num_known; i < chunk.token_ids_size() && !detokenizer_.stop(); ++i) {
    RETURN_IF_ERROR(Append(chunk, i, response));
  }
  if (detokenizer_.stop()) {
    Finish(v1::FINISH_REASON_STOP, response);
    response.set_matched_stop(stops_[detokenizer_.stop()->stop_index]);
  } else if (chunk.finish_reason() != v1::FINISH_REASON_UNSPECIFIED) {
    Finish(chunk.finish_reason(), response);
  }
  const bool news =
      response.token_ids_size() > 0 || response.finish_reason() != v1::FINISH_REASON_UNSPECIFIED;
  return news ? std::optional(std::move(response)) : std::nullopt;
}

absl::Status OutputAssembler::Check(const TokenChunk& chunk) const {
  if (chunk.first_index() < 0 || chunk.first_index() > num_tokens_) {
    return absl::InternalError(absl::StrCat("the worker sent token ", chunk.first_index(),
                                            " where token ", num_tokens_, " was due"));
  }
  if (int64_t{chunk.first_index()} + chunk.token_ids_size() > max_tokens_) {
    return absl::InternalError("the worker sent more than max_tokens");
  }
  if (wants_logprobs_ && chunk.logprobs_size() != chunk.token_ids_size()) {
    return absl::InternalError(absl::StrCat("the worker sent ", chunk.token_ids_size(),
                                            " tokens with ", chunk.logprobs_size(), " logprobs"));
  }
  return absl::OkStatus();
}

absl::Status OutputAssembler::Append(const TokenChunk& chunk, int index,
                                     v1::GenerateResponse& response) {
  const TokenId id = chunk.token_ids(index);
  response.add_token_ids(id);
  if (wants_logprobs_) *response.add_logprobs() = chunk.logprobs(index);
  ++num_tokens_;
  // Models pad their vocabulary: such ids have no text.
  if (EndsText(chunk, index) || !model_->tokenizer().IsValid(id)) return absl::OkStatus();
  ASSIGN_OR_RETURN(const std::string text, detokenizer_.Push(id));
  response.mutable_text()->append(text);
  return absl::OkStatus();
}

// A stop token is part of the ids, not of the text.
bool OutputAssembler::EndsText(const TokenChunk& chunk, int index) const {
  if (chunk.finish_reason() != v1::FINISH_REASON_STOP) return false;
  if (index + 1 != chunk.token_ids_size()) return false;
  const TokenId id = chunk.token_ids(index);
  const auto& stops = stop_token_ids_;
  return std::find(stops.begin(), stops.end(), id) != stops.end() ||
         (!ignore_eos_ && model_->IsEos(id));
}

void OutputAssembler::Finish(v1::FinishReason reason, v1::GenerateResponse& response) {
  response.mutable_text()->append(detokenizer_.Finish());
  response.set_finish_reason(reason);
  v1::Usage& usage = *response.mutable_usage();
  usage.set_prompt_tokens(num_prompt_tokens_);
  usage.set_completion_tokens(num_tokens_);
  *usage.mutable_speculation() = speculation_;
}

}  // namespace krait
