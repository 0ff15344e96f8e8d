#pragma once

#include <random>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coordinator/tools/load_options.h"

namespace krait {

// One request of a load, and how its client behaves.
struct PlannedRequest {
  v1::GenerateRequest request;
  int cancel_after_tokens = -1;  // 0: at once; -1: never
};

// The requests of a load in their order, and when they arrive: the same ones for the same options
// and seed. Not thread-safe.
class RequestSource {
 public:
  // NOT_FOUND if the prompts' file cannot be read, INVALID_ARGUMENT if it has no line.
  static absl::StatusOr<RequestSource> Create(const LoadOptions& options);

  PlannedRequest Next();
  // The time from one arrival of an open loop to the next: exponential, of mean 1/rate.
  absl::Duration NextGap();

 private:
  RequestSource(const LoadOptions& options, std::vector<std::string> prompts);
  std::string NextPrompt();
  int Draw(TokenRange range);

  const LoadOptions options_;
  const std::vector<std::string> prompts_;  // empty: made of words
  std::mt19937_64 arrivals_;
  std::mt19937_64 shapes_;
  uint64_t num_made_ = 0;
};

}  // namespace krait
