#pragma once

#include <string>

#include "krait/v1/generation.pb.h"

namespace krait {

// A greedy request for `max_tokens` tokens that runs past end-of-sequence tokens.
inline v1::GenerateRequest GreedyRequest(const std::string& prompt, int max_tokens) {
  v1::GenerateRequest request;
  request.set_prompt(prompt);
  request.mutable_sampling()->set_temperature(0);
  request.mutable_sampling()->set_max_tokens(max_tokens);
  request.mutable_sampling()->set_ignore_eos(true);
  return request;
}

// The same, drawn at temperature 0.9 with every processor on. It also runs for max_tokens.
inline v1::GenerateRequest SeededRequest(const std::string& prompt, int max_tokens, uint64_t seed) {
  v1::GenerateRequest request = GreedyRequest(prompt, max_tokens);
  v1::SamplingParams& sampling = *request.mutable_sampling();
  sampling.set_temperature(0.9);
  sampling.set_seed(seed);
  sampling.set_top_k(80);
  sampling.set_top_p(0.95);
  sampling.set_min_p(0.001);
  sampling.set_repetition_penalty(1.1);
  sampling.set_presence_penalty(0.2);
  sampling.set_frequency_penalty(0.1);
  sampling.set_logprobs(2);
  // Pushes some tokens up or down, and masks a third of the tokens all along.
  for (int id = 100; id < 200; ++id) {
    (*sampling.mutable_logit_bias())[id] = static_cast<float>(id % 11) - 4;
  }
  for (int id = 30; id < 90; ++id) sampling.add_stop_token_ids(id);
  sampling.set_min_tokens(max_tokens);
  return request;
}

inline v1::GenerateRequest WithoutSpeculation(v1::GenerateRequest request) {
  request.set_max_draft_tokens(0);
  return request;
}

}  // namespace krait
