#pragma once

#include <memory>
#include <string>

#include "tests/e2e/cluster_harness.h"

namespace krait {

// A cluster that `krait up` keeps alive, as its operators see it.
class UpCluster {
 public:
  // `workers`: their configurations, JSON objects with a comma between them.
  UpCluster(const std::string& model_path, const std::string& workers);

  // The worker `name`, once it is ready under a later epoch than `epoch` (60 s, else a failure).
  v1::Worker AwaitReady(const std::string& name, uint64_t epoch);
  // Waits until the target reaches its draft. False after `timeout`.
  bool AwaitDraft(absl::Duration timeout);

  GenerateOutcome Generate(const v1::GenerateRequest& request, const OnChunk& on_chunk = nullptr);
  Process& up() { return up_; }

 private:
  v1::ListWorkersResponse ListWorkers();

  const std::string address_;
  Process up_;
  std::shared_ptr<grpc::Channel> channel_;
};

}  // namespace krait
