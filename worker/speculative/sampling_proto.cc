#include "worker/speculative/sampling_proto.h"

#include <algorithm>

namespace krait {

SamplingParams FromProto(const v1::SamplingParams& proto) {
  SamplingParams sampling;
  if (proto.has_temperature()) sampling.temperature = proto.temperature();
  if (proto.has_top_k()) sampling.top_k = proto.top_k();
  if (proto.has_top_p()) sampling.top_p = proto.top_p();
  if (proto.has_min_p()) sampling.min_p = proto.min_p();
  if (proto.has_repetition_penalty()) sampling.repetition_penalty = proto.repetition_penalty();
  if (proto.has_presence_penalty()) sampling.presence_penalty = proto.presence_penalty();
  if (proto.has_frequency_penalty()) sampling.frequency_penalty = proto.frequency_penalty();
  if (proto.has_seed()) sampling.seed = proto.seed();
  if (proto.has_logprobs()) sampling.num_logprobs = proto.logprobs();
  for (const auto& [id, bias] : proto.logit_bias()) sampling.logit_bias.push_back({id, bias});
  std::sort(sampling.logit_bias.begin(), sampling.logit_bias.end(),
            [](const LogitBias& a, const LogitBias& b) { return a.id < b.id; });
  sampling.min_tokens = proto.min_tokens();
  return sampling;
}

v1::SamplingParams ToProto(const SamplingParams& sampling) {
  v1::SamplingParams proto;
  proto.set_temperature(sampling.temperature);
  proto.set_top_k(sampling.top_k);
  proto.set_top_p(sampling.top_p);
  proto.set_min_p(sampling.min_p);
  proto.set_repetition_penalty(sampling.repetition_penalty);
  proto.set_presence_penalty(sampling.presence_penalty);
  proto.set_frequency_penalty(sampling.frequency_penalty);
  proto.set_seed(sampling.seed);
  if (sampling.num_logprobs >= 0) proto.set_logprobs(sampling.num_logprobs);
  for (const auto& [id, bias] : sampling.logit_bias) (*proto.mutable_logit_bias())[id] = bias;
  proto.set_min_tokens(sampling.min_tokens);
  return proto;
}

}  // namespace krait
