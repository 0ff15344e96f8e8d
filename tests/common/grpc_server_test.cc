#include "common/grpc_server.h"

#include <gmock/gmock.h>
#include <google/protobuf/descriptor.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <thread>

#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "common/address.h"
#include "common/self_probe.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "krait/v1/cluster.grpc.pb.h"
#include "tests/support/busy_callbacks.h"

namespace krait {
namespace {

using grpc::health::v1::Health;
using grpc::health::v1::HealthCheckRequest;
using grpc::health::v1::HealthCheckResponse;
using ::testing::HasSubstr;

// Answers GetLoad with the length of nothing; Drain waits until the client gives up.
class FakeCluster final : public v1::ClusterService::CallbackService {
 public:
  grpc::ServerUnaryReactor* GetLoad(grpc::CallbackServerContext* context, const v1::GetLoadRequest*,
                                    v1::GetLoadResponse*) override {
    auto* reactor = context->DefaultReactor();
    reactor->Finish(grpc::Status::OK);
    return reactor;
  }
  grpc::ServerUnaryReactor* ListWorkers(grpc::CallbackServerContext*, const v1::ListWorkersRequest*,
                                        v1::ListWorkersResponse*) override {
    return new Slow(&started);
  }

  // Echoes nothing: what counts is whether the request gets here.
  grpc::ServerUnaryReactor* Drain(grpc::CallbackServerContext* context, const v1::DrainRequest*,
                                  v1::DrainResponse*) override {
    auto* reactor = context->DefaultReactor();
    reactor->Finish(grpc::Status::OK);
    return reactor;
  }

  absl::Notification started;

 private:
  class Slow final : public grpc::ServerUnaryReactor {
   public:
    explicit Slow(absl::Notification* started) { started->Notify(); }
    void OnCancel() override { Finish(grpc::Status::CANCELLED); }
    void OnDone() override { delete this; }
  };
};

int ConnectTo(int port) {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(port);
  EXPECT_EQ(connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  return fd;
}

class GrpcServerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto started = GrpcServer::Start({}, {{v1::ClusterService::service_full_name(), &cluster_}});
    ASSERT_TRUE(started.ok()) << started.status();
    server_ = std::move(*started);
    channel_ = grpc::CreateChannel(server_->address(), grpc::InsecureChannelCredentials());
  }

  HealthCheckResponse::ServingStatus Check(const std::string& service) {
    grpc::ClientContext context;
    HealthCheckRequest request;
    request.set_service(service);
    HealthCheckResponse response;
    const auto status = Health::NewStub(channel_)->Check(&context, request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response.status();
  }

  FakeCluster cluster_;
  std::unique_ptr<GrpcServer> server_;
  std::shared_ptr<grpc::Channel> channel_;
};

TEST_F(GrpcServerTest, HealthFollowsSetServing) {
  EXPECT_EQ(Check(""), HealthCheckResponse::NOT_SERVING);
  server_->SetServing(true);
  EXPECT_EQ(Check(""), HealthCheckResponse::SERVING);
  EXPECT_EQ(Check("krait.v1.ClusterService"), HealthCheckResponse::SERVING);
  grpc::ClientContext context;
  HealthCheckRequest request;
  request.set_service("nobody");
  HealthCheckResponse response;
  EXPECT_EQ(Health::NewStub(channel_)->Check(&context, request, &response).error_code(),
            grpc::StatusCode::NOT_FOUND);
}

// Or a server under load would look dead, and its self-probe would end it.
TEST_F(GrpcServerTest, HealthDoesNotWaitForStreams) {
  BusyCallbacks busy;
  const auto server =
      GrpcServer::Start({}, {{v1::ClusterService::service_full_name(), &busy}}).value();
  ASSERT_TRUE(busy.Occupy(server->address()));
  // A new connection, as the self-probe makes.
  const auto stub = Health::NewStub(
      grpc::CreateChannel(server->loopback_address(), grpc::InsecureChannelCredentials()));
  for (int i = 0; i < 5; ++i) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
    HealthCheckResponse response;
    const grpc::Status status = stub->Check(&context, {}, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
  }
  busy.Release();
}

// The control queue serves one call of a method after the other, and many at once wait their turn.
TEST_F(GrpcServerTest, HealthIsAnsweredToManyAtOnce) {
  std::vector<std::thread> clients;
  for (int i = 0; i < 8; ++i) {
    clients.emplace_back([&] {
      for (int j = 0; j < 50; ++j) Check("");
    });
  }
  for (std::thread& client : clients) client.join();
}

TEST_F(GrpcServerTest, WatchSendsEveryChangeAndEndsAtShutdown) {
  grpc::ClientContext context;
  auto reader = Health::NewStub(channel_)->Watch(&context, HealthCheckRequest());
  HealthCheckResponse response;
  ASSERT_TRUE(reader->Read(&response));
  EXPECT_EQ(response.status(), HealthCheckResponse::NOT_SERVING);
  server_->SetServing(true);
  ASSERT_TRUE(reader->Read(&response));
  EXPECT_EQ(response.status(), HealthCheckResponse::SERVING);
  server_->Shutdown(absl::Seconds(10));  // returns although the watch was open
  while (reader->Read(&response)) {
  }
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::UNAVAILABLE);
}

// What a reflection client reads: without a compiled-in descriptor the pool has no such file.
TEST_F(GrpcServerTest, HealthHasADescriptor) {
  EXPECT_NE(google::protobuf::DescriptorPool::generated_pool()->FindServiceByName(
                "grpc.health.v1.Health"),
            nullptr);
}

TEST_F(GrpcServerTest, ThePortIsNotShared) {
  GrpcServerOptions options;
  options.listen = server_->address();
  const auto second = GrpcServer::Start(options, {});
  EXPECT_EQ(second.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(second.status().ToString(), HasSubstr(server_->address()));
}

TEST_F(GrpcServerTest, RequestsUpToOneMebibyteAreTaken) {
  const auto stub = v1::ClusterService::NewStub(channel_);
  const size_t envelope = 4;  // tag and length of the one field
  for (const auto& [size, code] :
       {std::pair((1 << 20) - envelope, grpc::StatusCode::OK),
        std::pair((1 << 20) - envelope + 1, grpc::StatusCode::RESOURCE_EXHAUSTED)}) {
    v1::DrainRequest request;
    request.set_worker(std::string(size, 'w'));
    v1::DrainResponse response;
    grpc::ClientContext context;
    EXPECT_EQ(stub->Drain(&context, request, &response).error_code(), code) << size;
  }
}

// HTTP/2 counts name, value and 32 bytes an entry; the call's own headers take the rest.
TEST_F(GrpcServerTest, HeadersUpToEightKibibytesAreTaken) {
  const auto stub = v1::ClusterService::NewStub(channel_);
  for (const auto& [size, code] : {std::pair(7000, grpc::StatusCode::OK),
                                   std::pair(8192, grpc::StatusCode::RESOURCE_EXHAUSTED)}) {
    grpc::ClientContext context;
    context.AddMetadata("x-large", std::string(size, 'h'));
    v1::DrainResponse response;
    EXPECT_EQ(stub->Drain(&context, {}, &response).error_code(), code) << size;
  }
}

TEST_F(GrpcServerTest, SilentConnectionsAreClosed) {
  GrpcServerOptions options;
  options.handshake_timeout_ms = 100;
  const auto server = GrpcServer::Start(options, {}).value();
  const int fd = ConnectTo(server->port());
  char byte = 0;
  while (recv(fd, &byte, 1, 0) > 0) {
  }  // gRPC may have sent its settings
  close(fd);
}

TEST_F(GrpcServerTest, ConnectionsWithoutCallsAreClosed) {
  GrpcServerOptions options;
  options.idle_timeout_ms = 100;
  const auto server = GrpcServer::Start(options, {}).value();
  const auto channel = grpc::CreateChannel(server->address(), grpc::InsecureChannelCredentials());
  const auto soon = std::chrono::system_clock::now() + std::chrono::seconds(20);
  ASSERT_TRUE(channel->WaitForConnected(soon));
  EXPECT_TRUE(channel->WaitForStateChange(GRPC_CHANNEL_READY, soon));
}

TEST_F(GrpcServerTest, CallsBeyondTheStreamLimitWait) {
  GrpcServerOptions options;
  options.max_concurrent_streams = 1;
  const auto server =
      GrpcServer::Start(options, {{v1::ClusterService::service_full_name(), &cluster_}}).value();
  const auto channel = grpc::CreateChannel(server->address(), grpc::InsecureChannelCredentials());
  const auto stub = v1::ClusterService::NewStub(channel);
  grpc::ClientContext first;
  std::thread client([&] {
    v1::ListWorkersResponse response;
    stub->ListWorkers(&first, {}, &response);
  });
  cluster_.started.WaitForNotification();
  v1::GetLoadResponse load;
  grpc::ClientContext second;
  second.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(100));
  EXPECT_EQ(stub->GetLoad(&second, {}, &load).error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  first.TryCancel();
  client.join();
  grpc::ClientContext third;
  EXPECT_TRUE(stub->GetLoad(&third, {}, &load).ok());
}

TEST_F(GrpcServerTest, ShutdownCancelsWhatOutlivesTheGrace) {
  grpc::Status status;
  std::thread client([&] {
    grpc::ClientContext context;
    v1::ListWorkersResponse response;
    status = v1::ClusterService::NewStub(channel_)->ListWorkers(&context, {}, &response);
  });
  cluster_.started.WaitForNotification();
  server_->Shutdown(absl::Milliseconds(50));
  client.join();
  EXPECT_FALSE(status.ok());
}

TEST_F(GrpcServerTest, SelfProbeIsContentWhileTheServerAnswers) {
  std::atomic<bool> dead = false;
  {
    SelfProbe probe(server_->loopback_address(),
                    {.interval = absl::Milliseconds(5), .max_misses = 1}, [&] { dead = true; });
    for (int i = 0; i < 20; ++i) Check("");
  }
  EXPECT_FALSE(dead);
}

TEST_F(GrpcServerTest, SelfProbeReportsADeadPortOnce) {
  const std::string address = server_->loopback_address();
  server_.reset();
  absl::Notification dead;
  SelfProbe probe(
      address,
      {.interval = absl::Milliseconds(5), .timeout = absl::Milliseconds(200), .max_misses = 3},
      [&] { dead.Notify(); });
  EXPECT_TRUE(dead.WaitForNotificationWithTimeout(absl::Seconds(20)));
}

TEST(SelfProbeDeathTest, ExitsWithCode70) {
  ::testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_EXIT(
      {
        SelfProbe probe("127.0.0.1:1", {.interval = absl::Milliseconds(1),
                                        .timeout = absl::Milliseconds(200),
                                        .max_misses = 2});
        absl::SleepFor(absl::Seconds(30));
      },
      ::testing::ExitedWithCode(70), "own gRPC port is dead");
}

TEST(GrpcServer, PlaintextOffLoopbackNeedsTheFlag) {
  GrpcServerOptions options;
  options.listen = "0.0.0.0:0";
  const auto refused = GrpcServer::Start(options, {});
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(refused.status().ToString(), HasSubstr("insecure_plaintext"));
  options.insecure_plaintext = true;
  const auto allowed = GrpcServer::Start(options, {});
  ASSERT_TRUE(allowed.ok()) << allowed.status();
  EXPECT_EQ((*allowed)->loopback_address(), "127.0.0.1:" + std::to_string((*allowed)->port()));
}

TEST(GrpcServer, LimitsAreChecked) {
  ServerLimits limits;
  limits.set_max_request_kib(0);
  EXPECT_THAT(MakeGrpcServerOptions("127.0.0.1:0", false, limits, 1024).status().ToString(),
              HasSubstr("limits.max_request_kib: must be 1 to 65536, got 0"));
  limits.clear_max_request_kib();
  limits.set_grpc_memory_mib(64);
  const auto options = MakeGrpcServerOptions("127.0.0.1:0", false, limits, 4096);
  ASSERT_TRUE(options.ok());
  EXPECT_EQ(options->max_request_kib, 4096);
  EXPECT_EQ(options->grpc_memory_mib, 64);
}

TEST(Address, ParsesHostsPortsAndBrackets) {
  EXPECT_EQ(ParseHostPort("a.b:12")->host, "a.b");
  EXPECT_EQ(ParseHostPort("[::1]:0")->host, "::1");
  EXPECT_EQ(FormatHostPort("::1", 5), "[::1]:5");
  for (const char* bad : {"", "a", ":1", "a:", "a:b", "a:70000", "a:-1", "::1:5"}) {
    EXPECT_FALSE(ParseHostPort(bad).ok()) << bad;
  }
  for (const char* local : {"localhost", "127.0.0.1", "127.9.9.9", "::1"}) {
    EXPECT_TRUE(IsLoopbackHost(local)) << local;
  }
  for (const char* remote : {"0.0.0.0", "::", "10.0.0.1", "localhost.evil.org"}) {
    EXPECT_FALSE(IsLoopbackHost(remote)) << remote;
  }
}

}  // namespace
}  // namespace krait
