#include "worker/server/proto_conversion.h"

#include "common/status_macros.h"

namespace krait {
namespace {

v1::FinishReason ToProto(FinishReason reason) {
  switch (reason) {
    case FinishReason::kNone:
      return v1::FINISH_REASON_UNSPECIFIED;
    case FinishReason::kStop:
      return v1::FINISH_REASON_STOP;
    case FinishReason::kLength:
      return v1::FINISH_REASON_LENGTH;
  }
  return v1::FINISH_REASON_UNSPECIFIED;
}

void SetLogprob(const TokenLogprob& from, v1::TokenLogprob& to) {
  to.set_token_id(from.id);
  to.set_logprob(from.logprob);
}

StopParams StopFromProto(const v1::SamplingParams& sampling, const ServedModel& model) {
  StopParams stop;
  stop.max_tokens = sampling.max_tokens();
  stop.stop_token_ids.assign(sampling.stop_token_ids().begin(), sampling.stop_token_ids().end());
  if (!sampling.ignore_eos()) stop.eos_ids = model.eos_ids;
  return stop;
}

}  // namespace

absl::StatusOr<GenerationRequest> FromProto(const internal::v1::GenerateRequest& proto,
                                            const ServedModel& model, absl::Duration now) {
  RETURN_IF_ERROR(CheckRequestId(proto.request_id()));
  const auto& ids = proto.prompt_token_ids();
  RETURN_IF_ERROR(CheckPromptTokenIds(absl::MakeConstSpan(ids.data(), ids.size()), model.limits));
  v1::SamplingParams sampling = proto.sampling();
  RETURN_IF_ERROR(CheckSampling(sampling, model.limits));
  RETURN_IF_ERROR(FillSampling(ids.size(), model.limits, sampling));
  GenerationRequest request;
  request.request_id = proto.request_id();
  request.prompt.assign(ids.begin(), ids.end());
  request.sampling = FromProto(sampling);
  request.stop = StopFromProto(sampling, model);
  request.num_choices = sampling.n();
  if (proto.has_max_draft_tokens()) {
    RETURN_IF_ERROR(CheckMaxDraftTokens(proto.max_draft_tokens()));
    request.max_draft_tokens = proto.max_draft_tokens();
  }
  if (proto.deadline_ms() > 0) request.deadline = now + absl::Milliseconds(proto.deadline_ms());
  return request;
}

void AppendTo(const TokenEvent& event, internal::v1::TokenChunk& chunk) {
  chunk.set_choice(event.choice);
  if (chunk.token_ids().empty()) chunk.set_first_index(event.first_index);
  chunk.mutable_token_ids()->Add(event.token_ids.begin(), event.token_ids.end());
  for (const PositionLogprobs& position : event.logprobs) {
    v1::PositionLogprobs* out = chunk.add_logprobs();
    SetLogprob(position.token, *out->mutable_token());
    for (const TokenLogprob& other : position.top) SetLogprob(other, *out->add_top());
  }
  chunk.set_finish_reason(ToProto(event.finish_reason));
  chunk.mutable_speculation()->set_proposed(event.speculation.proposed);
  chunk.mutable_speculation()->set_accepted(event.speculation.accepted);
  chunk.mutable_speculation()->set_rounds(event.speculation.rounds);
}

v1::WorkerLoad ToProto(const EngineLoad& load) {
  v1::WorkerLoad proto;
  proto.set_running(load.running);
  proto.set_waiting(load.waiting);
  proto.set_paused(load.paused);
  proto.set_max_running(load.max_running);
  proto.set_max_waiting(load.max_waiting);
  proto.set_pages_used(load.pages_used);
  proto.set_pages_total(load.pages_total);
  proto.set_queued_tokens(load.queued_tokens);
  return proto;
}

}  // namespace krait
