#include "tests/load/scripted_cluster.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace krait {

ProcessUse ReadProcessUse(const std::string& admin_address) {
  const std::string metrics = HttpGet(admin_address, "/metrics");
  return {.fds = MetricValue(metrics, "process_open_fds"),
          .threads = MetricValue(metrics, "process_threads"),
          .heap_bytes = MetricValue(metrics, "process_heap_allocated_bytes"),
          .resident_bytes = MetricValue(metrics, "process_resident_memory_bytes")};
}

WorkerConfig& AddScripted(Cluster& cluster, const std::string& name, absl::Duration step,
                          int max_running, int max_waiting, int tokens_per_step) {
  WorkerConfig& config = cluster.AddTarget(name);
  config.set_max_running(max_running);
  config.set_max_waiting(max_waiting);
  config.set_max_num_batched_tokens(std::max(256, max_running));
  config.mutable_limits()->set_max_concurrent_streams(65'536);
  cluster.SetWorkerCommand(name, {BinaryPath("krait-scripted-worker"),
                                  absl::StrCat("--step_us=", absl::ToInt64Microseconds(step)),
                                  absl::StrCat("--tokens_per_step=", tokens_per_step)});
  return config;
}

v1::GenerateRequest ScriptedRequest(const std::string& prompt, int max_tokens) {
  v1::GenerateRequest request;
  request.set_prompt(prompt);
  request.mutable_sampling()->set_temperature(0);
  request.mutable_sampling()->set_max_tokens(max_tokens);
  request.mutable_sampling()->set_ignore_eos(true);
  request.mutable_sampling()->set_seed(1);
  return request;
}

bool WaitUntil(const std::function<bool()>& condition, absl::Duration timeout) {
  for (const absl::Time end = absl::Now() + timeout; absl::Now() < end;) {
    if (condition()) return true;
    absl::SleepFor(absl::Milliseconds(10));
  }
  return condition();
}

}  // namespace krait
