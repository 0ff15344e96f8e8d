#pragma once

#include <string>
#include <vector>

#include "absl/time/time.h"
#include "krait/v1/cluster.pb.h"
#include "krait/v1/generation.pb.h"

namespace krait {

// What one stream brought, and when. Times are passed in, counted from the call.
class GenerationResult {
 public:
  void Add(const v1::GenerateResponse& chunk, absl::Duration now);

  // Zero before the first token.
  absl::Duration time_to_first_token() const { return first_; }
  // Of the tokens after the first chunk, over the time since; 0 if there are none.
  double tokens_per_second() const;
  const std::string& text() const { return text_; }

  // The document of `krait generate --json`, one line.
  std::string ToJson(const v1::ListWorkersResponse& workers) const;

 private:
  std::string request_id_;
  std::string text_;
  std::vector<int32_t> token_ids_;
  std::vector<v1::PositionLogprobs> logprobs_;
  v1::FinishReason finish_reason_ = v1::FINISH_REASON_UNSPECIFIED;
  v1::Usage usage_;
  size_t tokens_in_first_ = 0;
  absl::Duration first_;
  absl::Duration last_;
};

}  // namespace krait
