#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "coordinator/server/prepared_request.h"
#include "coordinator/tokenizer/incremental_detokenizer.h"
#include "krait/internal/v1/worker.pb.h"
#include "krait/v1/generation.pb.h"

namespace krait {

// Turns a worker's chunks of one choice into the client's, whatever worker they come from:
// positions in order, each once; text; the cut at a stop string; usage. Pure: no I/O, no time. Not
// thread-safe.
class OutputAssembler {
 public:
  // `model` must outlive this. `choice` becomes the responses' index.
  static absl::StatusOr<OutputAssembler> Create(const TextModel& model,
                                                const PreparedRequest& request, int choice);

  // The response to send; empty if the chunk brought nothing new. With finish_reason set it is the
  // choice's last one: call no more. INTERNAL if the chunk leaves a gap, contradicts itself, or
  // goes past max_tokens: a worker that does so cannot be trusted with the rest.
  absl::StatusOr<std::optional<v1::GenerateResponse>> Accept(const internal::v1::TokenChunk& chunk);

  int num_tokens() const { return num_tokens_; }          // delivered so far
  int num_duplicates() const { return num_duplicates_; }  // dropped so far

 private:
  OutputAssembler(const TextModel& model, const PreparedRequest& request, int choice,
                  IncrementalDetokenizer detokenizer);

  absl::Status Check(const internal::v1::TokenChunk& chunk) const;
  absl::Status Append(const internal::v1::TokenChunk& chunk, int index,
                      v1::GenerateResponse& response);
  bool EndsText(const internal::v1::TokenChunk& chunk, int index) const;
  void Finish(v1::FinishReason reason, v1::GenerateResponse& response);

  const TextModel* model_;
  std::string request_id_;
  int choice_;
  std::vector<std::string> stops_;
  std::vector<TokenId> stop_token_ids_;
  bool ignore_eos_;
  bool wants_logprobs_;
  int num_prompt_tokens_;
  int max_tokens_;
  IncrementalDetokenizer detokenizer_;
  v1::SpeculationUsage speculation_;
  int num_tokens_ = 0;
  int num_duplicates_ = 0;
};

}  // namespace krait
