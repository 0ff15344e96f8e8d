// A coordinator's request to a worker, from a coordinator that may be broken.

#include "common/logging.h"
#include "tests/fuzz/fuzz_target.h"
#include "worker/server/proto_conversion.h"

namespace krait {
namespace {

const ServedModel& Model() {
  static const ServedModel& model =
      *new ServedModel{.limits = {.max_context_tokens = 64, .vocab_size = 100}, .eos_ids = {2}};
  return model;
}

}  // namespace

void FuzzOne(std::string_view input) {
  internal::v1::GenerateRequest proto;
  if (!proto.ParseFromArray(input.data(), static_cast<int>(input.size()))) return;
  const auto request = krait::FromProto(proto, Model(), absl::Seconds(5));
  if (!request.ok()) return;
  CHECK(!request->prompt.empty());
  for (TokenId id : request->prompt) CHECK(id >= 0 && id < Model().limits.vocab_size);
  CHECK_GE(request->stop.max_tokens, 1);
  CHECK_LE(static_cast<int64_t>(request->prompt.size()) + request->stop.max_tokens,
           Model().limits.max_context_tokens);
}

std::vector<std::string> FuzzSeeds() {
  internal::v1::GenerateRequest request;
  request.set_request_id("id");
  request.set_epoch(3);
  request.set_deadline_ms(1000);
  request.set_max_draft_tokens(2);
  for (int id : {5, 6, 7}) request.add_prompt_token_ids(id);
  v1::SamplingParams& sampling = *request.mutable_sampling();
  sampling.set_max_tokens(8);
  sampling.set_temperature(1);
  sampling.add_stop_token_ids(9);
  internal::v1::GenerateRequest late = request;
  late.set_deadline_ms(INT64_MAX);
  internal::v1::GenerateRequest long_one = request;
  long_one.mutable_sampling()->set_max_tokens(INT32_MAX);
  return {request.SerializeAsString(), late.SerializeAsString(), long_one.SerializeAsString()};
}

}  // namespace krait
