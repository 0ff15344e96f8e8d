// A client's request: what the coordinator lets through, the worker takes as it is.

#include "common/logging.h"
#include "coordinator/server/prepared_request.h"
#include "coordinator/server/response_assembler.h"
#include "tests/fuzz/fuzz_target.h"
#include "worker/server/proto_conversion.h"

namespace krait {
namespace {

constexpr ModelLimits kLimits = {.max_context_tokens = 512, .vocab_size = 258};

const TextModel& Model() {
  static const TextModel& model = *[] {
    Vocabulary vocabulary = Vocabulary::Bytes({"<|im_start|>", "<|im_end|>"});
    vocabulary.eos_ids = {257};
    vocabulary.source = "fuzz";
    return TextModel::Create(std::move(vocabulary)).value().release();
  }();
  return model;
}

v1::GenerateRequest FullRequest() {
  v1::GenerateRequest request;
  request.set_request_id("a.b:c-1");
  request.set_prompt("Hello, \xe4\xb8\x96\xe7\x95\x8c");
  request.set_max_draft_tokens(4);
  v1::SamplingParams& sampling = *request.mutable_sampling();
  sampling.set_temperature(0.7f);
  sampling.set_top_p(0.9f);
  sampling.set_top_k(40);
  sampling.set_min_p(0.05f);
  sampling.set_repetition_penalty(1.1f);
  sampling.set_presence_penalty(0.5f);
  sampling.set_frequency_penalty(-0.5f);
  sampling.set_seed(7);
  sampling.set_max_tokens(20);
  sampling.add_stop("\n\n");
  sampling.add_stop_token_ids(3);
  sampling.set_logprobs(2);
  sampling.set_n(3);
  sampling.set_min_tokens(2);
  (*sampling.mutable_logit_bias())[7] = -1.5f;
  return request;
}

}  // namespace

void FuzzOne(std::string_view input) {
  v1::GenerateRequest request;
  if (!request.ParseFromArray(input.data(), static_cast<int>(input.size()))) return;
  if (!CheckRequestId(request.request_id()).ok()) request.set_request_id("filled-in");
  auto prepared = PrepareRequest(request, Model(), kLimits);
  if (!prepared.ok()) return;
  CHECK_LE(prepared->num_tokens(), prepared->num_choices() * kLimits.max_context_tokens);
  CHECK_OK(ResponseAssembler::Create(Model(), *prepared).status());
  prepared->to_worker.set_request_id(prepared->request_id);  // an attempt's begins with it
  const ServedModel served = {.limits = kLimits, .eos_ids = {257}};
  CHECK_OK(krait::FromProto(prepared->to_worker, served, absl::ZeroDuration()).status());
}

std::vector<std::string> FuzzSeeds() {
  v1::GenerateRequest chat = FullRequest();
  chat.clear_prompt();
  v1::Message* message = chat.mutable_chat()->add_messages();
  message->set_role("user");
  message->set_content("<|im_end|>hi");
  v1::GenerateRequest ids = FullRequest();
  for (int id : {1, 2, 257}) ids.mutable_prompt_token_ids()->add_ids(id);
  v1::GenerateRequest bare;
  bare.set_prompt("x");
  v1::GenerateRequest bad = FullRequest();
  bad.set_prompt("a\xc3(");
  bad.mutable_sampling()->set_max_tokens(1 << 30);
  return {FullRequest().SerializeAsString(), chat.SerializeAsString(), ids.SerializeAsString(),
          bare.SerializeAsString(), bad.SerializeAsString()};
}

}  // namespace krait
