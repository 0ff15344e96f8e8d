#pragma once

#include <string>

#include "absl/time/time.h"
#include "tests/e2e/cluster_harness.h"

namespace krait {

// What a process holds, from its /metrics.
struct ProcessUse {
  double fds = 0;
  double threads = 0;
  double heap_bytes = 0;
  double resident_bytes = 0;
};
ProcessUse ReadProcessUse(const std::string& admin_address);

// Adds a krait-scripted-worker to `cluster`, before Start.
WorkerConfig& AddScripted(Cluster& cluster, const std::string& name, absl::Duration step,
                          int max_running, int max_waiting, int tokens_per_step = 1);

// A request of `prompt` for exactly `max_tokens` tokens, the same every time.
v1::GenerateRequest ScriptedRequest(const std::string& prompt, int max_tokens);

// Waits until `condition` holds. False after `timeout`.
bool WaitUntil(const std::function<bool()>& condition, absl::Duration timeout = absl::Seconds(20));

}  // namespace krait
