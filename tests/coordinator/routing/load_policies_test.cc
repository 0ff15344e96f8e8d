// Decisions of the policies through the router, as golden text. `workers` sets the cluster by name:
// streams/max_running[/queued_tokens[/max_waiting]], as one heartbeat each; `pick` places n
// streams.

#include "coordinator/routing/load_policies.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/build_info.h"
#include "common/field_error.h"
#include "common/logging.h"
#include "coordinator/routing/router.h"
#include "tests/support/datadriven.h"

namespace krait {
namespace {

constexpr absl::Duration kNow = absl::Seconds(1);

class RoutingDriver {
 public:
  std::string Run(const testing::DataCommand& command) {
    if (command.name == "policy") return Reset(command.Text("name"));
    if (command.name == "workers") return SetWorkers(command.args);
    if (command.name == "pick") return Pick(command.Int("n", 1), command.Text("tried"));
    return "unknown command";
  }

 private:
  std::string Reset(const std::string& policy) {
    router_ = std::make_unique<Router>(registry_, MakeRoutingPolicy(policy).value());
    return "ok";
  }

  std::string SetWorkers(const std::map<std::string, std::string>& workers) {
    for (const auto& [name, epoch] : epochs_) {
      if (workers.count(name) > 0) continue;
      EXPECT_TRUE(registry_.Deregister({name, epoch}, kNow).ok());
    }
    for (const auto& [name, load] : workers) Beat(name, load);
    return "ok";
  }

  void Beat(const std::string& name, const std::string& text) {
    internal::v1::RegisterRequest request;
    request.set_wire_version(kWireVersion);
    request.set_instance_id(name);
    request.set_max_context_tokens(100);
    request.set_vocab_size(10);
    v1::Worker& worker = *request.mutable_worker();
    worker.set_name(name);
    worker.set_role(v1::WORKER_ROLE_TARGET);
    worker.set_address("127.0.0.1:1");
    worker.set_model("m");
    worker.set_build_id("b");
    epochs_[name] = registry_.Register(request, kNow).value();
    internal::v1::HeartbeatRequest beat;
    beat.set_name(name);
    beat.set_epoch(epochs_[name]);
    beat.set_state(v1::WORKER_STATE_READY);
    const std::vector<std::string> parts = absl::StrSplit(text, '/');
    beat.mutable_load()->set_running(std::stoi(parts[0]));
    beat.mutable_load()->set_max_running(std::stoi(parts[1]));
    if (parts.size() > 2) beat.mutable_load()->set_queued_tokens(std::stoi(parts[2]));
    beat.mutable_load()->set_max_waiting(parts.size() > 3 ? std::stoi(parts[3]) : 1000);
    EXPECT_TRUE(registry_.Heartbeat(beat, kNow).ok());
  }

  std::string Pick(int n, const std::string& tried_names) {
    std::set<WorkerKey> tried;
    for (const auto& name : absl::StrSplit(tried_names, ',', absl::SkipEmpty())) {
      tried.insert({std::string(name), epochs_.at(std::string(name))});
    }
    std::string picks;
    for (int i = 0; i < n; ++i) {
      const auto worker = router_->Place(tried);
      absl::StrAppend(&picks, i > 0 ? " " : "", worker.has_value() ? worker->key.name : "none");
    }
    return picks;
  }

  WorkerRegistry registry_{{.served = {"m", ""}}};
  std::unique_ptr<Router> router_;
  std::map<std::string, uint64_t> epochs_;
};

TEST(LoadPoliciesTest, GoldenDecisions) {
  for (const char* file : {"round_robin", "least_loaded"}) {
    RoutingDriver driver;
    testing::RunDataDriven(absl::StrCat("tests/coordinator/routing/testdata/", file, ".txt"),
                           [&](const testing::DataCommand& c) { return driver.Run(c); });
  }
}

TEST(LoadPoliciesTest, UnknownPolicyIsRefusedWithTheKnownOnes) {
  const auto policy = MakeRoutingPolicy("fastest");
  EXPECT_EQ(ErrorField(policy.status()), "routing_policy");
  EXPECT_THAT(std::string(policy.status().message()), ::testing::HasSubstr("least_loaded"));
}

}  // namespace
}  // namespace krait
