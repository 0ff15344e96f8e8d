#pragma once

// Sampling parameters that coordinator and worker refuse, each with what the error has to name.

#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "krait/v1/generation.pb.h"

namespace krait::testing {

struct BadSampling {
  std::string field;  // in generation.proto
  std::string limit;  // part of the message
  std::function<void(v1::SamplingParams&)> edit;
};

inline std::vector<BadSampling> BadSamplings(int vocab_size) {
  const float nan = std::nanf("");
  const float infinity = std::numeric_limits<float>::infinity();
  const std::string ids = absl::StrCat("0 to ", vocab_size - 1);
  std::vector<BadSampling> all = {
      {"sampling.top_k", absl::StrCat("0 to ", vocab_size),
       [=](auto& s) { s.set_top_k(vocab_size + 1); }},
      {"sampling.max_tokens", "1 to ", [](auto& s) { s.set_max_tokens(0); }},
      {"sampling.min_tokens", "0 to 5",
       [](auto& s) {
         s.set_max_tokens(5);
         s.set_min_tokens(6);
       }},
      {"sampling.n", "1 to 8", [](auto& s) { s.set_n(9); }},
      {"sampling.n", "1 to 8", [](auto& s) { s.set_n(0); }},
      {"sampling.n", "1 to 8", [](auto& s) { s.set_n(2'000'000'000); }},
      {"sampling.logprobs", "0 to 20", [](auto& s) { s.set_logprobs(21); }},
      {"sampling.stop_token_ids[0]", ids, [=](auto& s) { s.add_stop_token_ids(vocab_size); }},
      {"sampling.stop_token_ids[1]", ids,
       [](auto& s) {
         s.add_stop_token_ids(0);
         s.add_stop_token_ids(-1);
       }},
      {"sampling.stop_token_ids", "at most 64",
       [](auto& s) {
         for (int i = 0; i < 65; ++i) s.add_stop_token_ids(1);
       }},
      {"sampling.stop", "at most 8",
       [](auto& s) {
         for (int i = 0; i < 1000; ++i) s.add_stop(absl::StrCat("stop ", i));
       }},
      {"sampling.stop[0]", "1 to 128", [](auto& s) { s.add_stop(std::string(129, 'x')); }},
      {"sampling.stop[0]", "offset 1", [](auto& s) { s.add_stop("x\xff"); }},
      {absl::StrCat("sampling.logit_bias[", vocab_size, "]"), ids,
       [=](auto& s) { (*s.mutable_logit_bias())[vocab_size] = 1; }},
      {"sampling.logit_bias[-1]", ids, [](auto& s) { (*s.mutable_logit_bias())[-1] = 1; }},
      {"sampling.logit_bias[7]", "-100 to 100",
       [](auto& s) { (*s.mutable_logit_bias())[7] = 100.5f; }},
      {"sampling.logit_bias[7]", "-100 to 100",
       [=](auto& s) { (*s.mutable_logit_bias())[7] = nan; }},
      {"sampling.logit_bias", "at most 300",
       [](auto& s) {
         for (int id = 0; id < 301; ++id) (*s.mutable_logit_bias())[id] = 1;
       }},
  };
  for (float bad : {nan, infinity, -infinity, -3.0f, 101.0f}) {
    all.push_back({"sampling.temperature", "0 to 100", [=](auto& s) { s.set_temperature(bad); }});
    all.push_back({"sampling.top_p", "above 0 and at most 1", [=](auto& s) { s.set_top_p(bad); }});
    all.push_back({"sampling.min_p", "0 to 1", [=](auto& s) { s.set_min_p(bad); }});
    all.push_back({"sampling.repetition_penalty", "above 0 and at most 10",
                   [=](auto& s) { s.set_repetition_penalty(bad); }});
    all.push_back(
        {"sampling.presence_penalty", "-2 to 2", [=](auto& s) { s.set_presence_penalty(bad); }});
    all.push_back(
        {"sampling.frequency_penalty", "-2 to 2", [=](auto& s) { s.set_frequency_penalty(bad); }});
  }
  return all;
}

}  // namespace krait::testing
