#pragma once

#include <map>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "krait/v1/cluster.pb.h"
#include "krait/v1/generation.pb.h"

namespace krait {

// What one stream brought, of all its choices, and when. Times are passed in, counted from the
// call.
class GenerationResult {
 public:
  void Add(const v1::GenerateResponse& chunk, absl::Duration now);

  // Zero before the first token.
  absl::Duration time_to_first_token() const { return first_; }
  // Of the tokens after the first chunk, over the time since; where one chunk brought all, of all
  // over the time since the request; 0 without tokens.
  double tokens_per_second() const;
  // Of one choice, by default the only one; empty if nothing came of it.
  std::string text(int choice = 0) const;

  // The document of `krait generate --json`, one line: the choice's fields, or, if there are
  // several, all of them in `choices`.
  std::string ToJson(const v1::ListWorkersResponse& workers) const;

 private:
  struct Choice {
    std::string text;
    std::vector<int32_t> token_ids;
    std::vector<v1::PositionLogprobs> logprobs;
    v1::FinishReason finish_reason = v1::FINISH_REASON_UNSPECIFIED;
    v1::Usage usage;
  };

  static nlohmann::ordered_json ChoiceJson(const Choice& choice);

  std::string request_id_;
  std::map<int, Choice> choices_;  // by index
  v1::Usage total_usage_;
  size_t num_tokens_ = 0;  // of all choices
  size_t tokens_in_first_ = 0;
  absl::Duration first_;
  absl::Duration last_;
};

}  // namespace krait
