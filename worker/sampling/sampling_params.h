#pragma once

#include <cstdint>
#include <vector>

#include "common/token.h"

namespace krait {

struct LogitBias {
  TokenId id = 0;
  float bias = 0;
};

// How one generation draws its tokens; every field set and within the ranges of
// common/request_limits.h. Plain data: it travels to every rank with the sequence.
struct SamplingParams {
  float temperature = 1.0f;  // below 1e-5: greedy
  int32_t top_k = 0;         // 0: off
  float top_p = 1.0f;
  float min_p = 0.0f;
  float repetition_penalty = 1.0f;
  float presence_penalty = 0.0f;
  float frequency_penalty = 0.0f;
  uint64_t seed = 0;
  uint32_t choice = 0;  // which of n, for the noise
  // -1: none. Otherwise the drawn token's logprob and this many alternatives.
  int32_t num_logprobs = -1;
  std::vector<LogitBias> logit_bias;  // by rising id, each once
  // `end_ids` are not drawn as one of the first min_tokens output tokens.
  int32_t min_tokens = 0;
  std::vector<TokenId> end_ids;  // rising, each once; empty if min_tokens is 0

  bool greedy() const { return temperature < 1e-5f; }
  bool has_penalties() const {
    return repetition_penalty != 1.0f || presence_penalty != 0.0f || frequency_penalty != 0.0f;
  }
};

// When one generation ends; checked by the engine on the tokens, so no rank needs it.
struct StopParams {
  int32_t max_tokens = 1;
  std::vector<TokenId> stop_token_ids;
  std::vector<TokenId> eos_ids;  // empty when end-of-sequence tokens are ignored
};

struct TokenLogprob {
  TokenId id = 0;
  float logprob = 0;
};

// Of the raw logits, before any processor.
struct PositionLogprobs {
  TokenLogprob token;             // the drawn one
  std::vector<TokenLogprob> top;  // falling order, num_logprobs of them
};

}  // namespace krait
