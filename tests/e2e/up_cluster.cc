#include "tests/e2e/up_cluster.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace krait {

UpCluster::UpCluster(const std::string& model_path, const std::string& workers)
    : address_(absl::StrCat("127.0.0.1:", PickFreePort())) {
  static int count = 0;
  const std::string dir = absl::StrCat(::testing::TempDir(), "krait-up-", getpid(), "-", ++count);
  std::filesystem::create_directories(dir);
  const std::string config = dir + "/cluster.json";
  std::ofstream(config) << R"({"run_dir": ")" << dir << R"(", "coordinator": {"listen": ")"
                        << address_ << R"(", "model_path": ")" << model_path
                        << R"("}, "workers": [)" << workers << "]}";
  up_ = Process::Start({BinaryPath("krait"), "up", "--config", config}, dir + "/up.log");
  channel_ = grpc::CreateChannel(address_, grpc::InsecureChannelCredentials());
}

v1::ListWorkersResponse UpCluster::ListWorkers() {
  const auto stub = v1::ClusterService::NewStub(channel_);
  grpc::ClientContext context;
  v1::ListWorkersResponse response;
  if (!stub->ListWorkers(&context, {}, &response).ok()) response.Clear();
  return response;
}

v1::Worker UpCluster::AwaitReady(const std::string& name, uint64_t epoch) {
  for (const absl::Time end = absl::Now() + absl::Seconds(60); absl::Now() < end;) {
    const v1::ListWorkersResponse response = ListWorkers();
    for (const v1::Worker& worker : response.workers()) {
      if (worker.name() == name && worker.state() == v1::WORKER_STATE_READY &&
          worker.epoch() > epoch) {
        return worker;
      }
    }
    absl::SleepFor(absl::Milliseconds(20));
  }
  ADD_FAILURE() << up_.Log();
  return {};
}

bool UpCluster::AwaitDraft(absl::Duration timeout) {
  for (const absl::Time end = absl::Now() + timeout; absl::Now() < end;) {
    const v1::ListWorkersResponse response = ListWorkers();
    for (const v1::Worker& worker : response.workers()) {
      if (worker.draft_connected()) return true;
    }
    absl::SleepFor(absl::Milliseconds(20));
  }
  return false;
}

GenerateOutcome UpCluster::Generate(const v1::GenerateRequest& request, const OnChunk& on_chunk) {
  return RunGenerate(*v1::GenerationService::NewStub(channel_), request, on_chunk,
                     absl::Seconds(60));
}

}  // namespace krait
