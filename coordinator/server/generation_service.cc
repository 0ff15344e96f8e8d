#include "coordinator/server/generation_service.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/grpc_status.h"
#include "common/logging.h"
#include "common/status_macros.h"

namespace krait {

grpc::ServerWriteReactor<v1::GenerateResponse>* GenerationService::Generate(
    grpc::CallbackServerContext* call, const v1::GenerateRequest* request) {
  v1::GenerateRequest copy = *request;
  if (copy.request_id().empty()) copy.set_request_id(absl::StrFormat("%016x", RandomBits()));
  absl::Status status = CheckEntry(copy);
  LiveIds::Claim claim;
  if (status.ok()) {
    claim = live_ids_.TryClaim(copy.request_id());
    if (!claim) status = absl::AlreadyExistsError("request_id: a live request has this id");
  }
  const int64_t number = next_session_++;
  const auto session = std::make_shared<GenerationSession>(
      context_, call, std::move(claim), [this, number] { sessions_.Erase(number); });
  sessions_.Insert(number, session);
  if (status.ok()) {
    session->Begin(copy);
  } else {
    session->EndWith(status);
  }
  return session.get();
}

absl::Status GenerationService::CheckEntry(const v1::GenerateRequest& request) const {
  if (draining_) {
    context_.metrics.rejected(Rejection::kDraining).Increment();
    return absl::UnavailableError("the coordinator is draining");
  }
  RETURN_IF_ERROR(CheckModel(request.model()));
  return CheckRequestId(request.request_id());
}

absl::Status GenerationService::CheckModel(const std::string& model) const {
  if (model.empty() || model == context_.options.model_name) return absl::OkStatus();
  return absl::NotFoundError(
      absl::StrCat("model: not served here; ", context_.options.model_name, " is"));
}

void GenerationService::StartDraining() {
  draining_ = true;
  context_.metrics.draining.Set(1);
}

grpc::ServerUnaryReactor* GenerationService::Tokenize(grpc::CallbackServerContext* call,
                                                      const v1::TokenizeRequest* request,
                                                      v1::TokenizeResponse* response) {
  return Answer(Method::kTokenize, call, Tokenize(*request, *response));
}

absl::Status GenerationService::Tokenize(const v1::TokenizeRequest& request,
                                         v1::TokenizeResponse& response) const {
  RETURN_IF_ERROR(CheckModel(request.model()));
  const TextModel& model = context_.model;
  ASSIGN_OR_RETURN(const std::vector<TokenId> ids,
                   request.has_chat()
                       ? model.EncodeChat(request.chat(), request.allow_special_tokens())
                       : model.EncodePrompt(request.text(), request.allow_special_tokens()));
  response.mutable_token_ids()->Add(ids.begin(), ids.end());
  return absl::OkStatus();
}

grpc::ServerUnaryReactor* GenerationService::Detokenize(grpc::CallbackServerContext* call,
                                                        const v1::DetokenizeRequest* request,
                                                        v1::DetokenizeResponse* response) {
  return Answer(Method::kDetokenize, call, Detokenize(*request, *response));
}

absl::Status GenerationService::Detokenize(const v1::DetokenizeRequest& request,
                                           v1::DetokenizeResponse& response) const {
  RETURN_IF_ERROR(CheckModel(request.model()));
  auto text = context_.model.tokenizer().Decode(request.token_ids(), request.skip_special_tokens());
  if (!text.ok()) return absl::InvalidArgumentError(text.status().message());
  response.set_text(*std::move(text));
  return absl::OkStatus();
}

grpc::ServerUnaryReactor* GenerationService::GetModelInfo(grpc::CallbackServerContext* call,
                                                          const v1::GetModelInfoRequest* request,
                                                          v1::GetModelInfoResponse* response) {
  const Vocabulary& vocabulary = context_.model.vocabulary();
  const auto limits = context_.registry.Limits();
  response->set_model(context_.options.model_name);
  response->set_max_context_tokens(limits.has_value() ? limits->max_context_tokens : 0);
  response->set_vocab_size(limits.has_value() ? limits->vocab_size
                                              : context_.model.tokenizer().vocab_size());
  response->mutable_eos_token_ids()->Add(vocabulary.eos_ids.begin(), vocabulary.eos_ids.end());
  if (vocabulary.bos_id.has_value()) response->set_bos_token_id(*vocabulary.bos_id);
  response->set_tokenizer_digest(context_.model.digest());
  response->set_weights_digest(context_.registry.WeightsDigest());
  response->set_chat_template(context_.model.chat_template_name());
  return Answer(Method::kGetModelInfo, call, CheckModel(request->model()));
}

grpc::ServerUnaryReactor* GenerationService::Answer(Method method,
                                                    grpc::CallbackServerContext* call,
                                                    const absl::Status& status) {
  context_.metrics.CountRequest(method, status.code());
  grpc::ServerUnaryReactor* reactor = call->DefaultReactor();
  reactor->Finish(ToGrpcStatus(status));
  return reactor;
}

}  // namespace krait
