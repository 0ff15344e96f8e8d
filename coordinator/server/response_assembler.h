#pragma once

#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "coordinator/server/output_assembler.h"

namespace krait {

// The client's responses to one request, of all its choices. Pure: no I/O, no time. Not
// thread-safe.
class ResponseAssembler {
 public:
  // `model` must outlive this.
  static absl::StatusOr<ResponseAssembler> Create(const TextModel& model,
                                                  const PreparedRequest& request);

  // The response to send; empty if the chunk brought nothing new, as it does when its choice has
  // ended at a stop string. The last of all choices carries total_usage. INTERNAL as
  // OutputAssembler::Accept, or if there is no such choice.
  absl::StatusOr<std::optional<v1::GenerateResponse>> Accept(const internal::v1::TokenChunk& chunk);

  // Every choice has had its last response.
  bool complete() const { return num_finished_ == num_choices(); }
  // The worker has ended every choice by itself: nothing is left to cancel.
  bool worker_complete() const { return num_ended_by_worker_ == num_choices(); }
  int num_choices() const { return static_cast<int>(choices_.size()); }
  int num_tokens() const;  // delivered so far
  int num_tokens(int choice) const { return choices_[choice].output.num_tokens(); }
  int num_duplicates() const;  // dropped so far

 private:
  struct Choice {
    OutputAssembler output;
    bool finished = false;
  };

  void AddUsage(const v1::Usage& usage);

  std::vector<Choice> choices_;
  int num_finished_ = 0;
  int num_ended_by_worker_ = 0;
  v1::Usage total_;
};

}  // namespace krait
