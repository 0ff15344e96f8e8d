#include "coordinator/server/registry_service.h"

#include <gtest/gtest.h>

#include <chrono>

#include "common/build_info.h"
#include "common/grpc_server.h"
#include "tests/support/busy_callbacks.h"
#include "tests/support/fake_clock.h"

namespace krait {
namespace {

using internal::v1::HeartbeatRequest;
using internal::v1::HeartbeatResponse;
using internal::v1::RegisterRequest;
using internal::v1::RegisterResponse;

class RegistryServiceTest : public ::testing::Test {
 protected:
  RegistryServiceTest() {
    server_ = GrpcServer::Start({}, {{internal::v1::RegistryService::service_full_name(), &service_,
                                      [this](ControlQueue& queue) { service_.ServeOn(queue); }},
                                     {v1::ClusterService::service_full_name(), &busy_}})
                  .value();
    stub_ = internal::v1::RegistryService::NewStub(
        grpc::CreateChannel(server_->address(), grpc::InsecureChannelCredentials()));
  }
  ~RegistryServiceTest() override { busy_.Release(); }

  static void SetDeadline(grpc::ClientContext& context) {
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
  }

  RegisterResponse Register() {
    RegisterRequest request;
    request.set_wire_version(kWireVersion);
    request.set_instance_id("0123456789abcdef0123456789abcdef");
    v1::Worker& worker = *request.mutable_worker();
    worker.set_name("w");
    worker.set_address("127.0.0.1:1");
    worker.set_role(v1::WORKER_ROLE_TARGET);
    worker.set_model("model");
    worker.set_build_id("build");
    worker.set_weights_digest("weights");
    worker.set_tokenizer_digest("tokens");
    request.set_max_context_tokens(100);
    request.set_vocab_size(100);
    grpc::ClientContext context;
    SetDeadline(context);
    RegisterResponse response;
    const grpc::Status status = stub_->Register(&context, request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response;
  }

  grpc::Status Heartbeat(uint64_t epoch) {
    HeartbeatRequest request;
    request.set_name("w");
    request.set_epoch(epoch);
    grpc::ClientContext context;
    SetDeadline(context);
    HeartbeatResponse response;
    return stub_->Heartbeat(&context, request, &response);
  }

  FakeClock clock_;
  Metrics metrics_registry_{MetricLabels{}};
  CoordinatorMetrics metrics_{metrics_registry_};
  WorkerRegistry registry_{{.served = {"model", "tokens"}, .lease = absl::Seconds(3)}};
  RegistryService service_{clock_, absl::Seconds(3), "coordinator", registry_, metrics_};
  BusyCallbacks busy_;
  std::unique_ptr<GrpcServer> server_;
  std::unique_ptr<internal::v1::RegistryService::Stub> stub_;
};

TEST_F(RegistryServiceTest, WorkersComeAndRenew) {
  const RegisterResponse registered = Register();
  EXPECT_EQ(registered.lease_ms(), 3000);
  EXPECT_EQ(registered.heartbeat_interval_ms(), 1000);
  EXPECT_EQ(registered.coordinator_id(), "coordinator");
  for (int i = 0; i < 5; ++i) EXPECT_TRUE(Heartbeat(registered.epoch()).ok());
  EXPECT_EQ(Heartbeat(registered.epoch() + 1).error_code(), grpc::StatusCode::ABORTED);
}

// A heartbeat that waits behind the streams costs a lease, and with it the streams.
TEST_F(RegistryServiceTest, HeartbeatsDoNotWaitForStreams) {
  const uint64_t epoch = Register().epoch();
  ASSERT_TRUE(busy_.Occupy(server_->address()));
  for (int i = 0; i < 5; ++i) {
    const grpc::Status status = Heartbeat(epoch);
    EXPECT_TRUE(status.ok()) << status.error_message();
  }
}

}  // namespace
}  // namespace krait
