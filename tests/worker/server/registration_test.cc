#include "worker/server/registration.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "common/grpc_server.h"

namespace krait {
namespace {

constexpr absl::Duration kPatience = absl::Seconds(10);

// A coordinator that answers as told and keeps what it was sent.
class FakeRegistry final : public internal::v1::RegistryService::CallbackService {
 public:
  FakeRegistry() { Listen("127.0.0.1:0"); }

  void Listen(const std::string& address) {
    GrpcServerOptions options;
    options.listen = address;
    auto server =
        GrpcServer::Start(options, {{internal::v1::RegistryService::service_full_name(), this}});
    EXPECT_TRUE(server.ok()) << server.status();
    server_ = std::move(*server);
  }
  void StopListening() { server_.reset(); }
  std::string address() const { return server_->address(); }

  void AbortNextHeartbeat() {
    absl::MutexLock lock(&mutex_);
    abort_next_ = true;
  }
  void AskToDrain() {
    absl::MutexLock lock(&mutex_);
    drain_ = true;
  }
  void SetLease(absl::Duration lease) {
    absl::MutexLock lock(&mutex_);
    lease_ = lease;
  }
  bool WaitForRegistrations(int count) { return Wait(registrations_, count); }
  bool WaitForHeartbeats(int count) { return Wait(heartbeats_, count); }
  bool WaitForDeregistrations(int count) { return Wait(deregistrations_, count); }
  internal::v1::HeartbeatRequest last_heartbeat() const {
    absl::MutexLock lock(&mutex_);
    return last_heartbeat_;
  }
  int heartbeats() const {
    absl::MutexLock lock(&mutex_);
    return heartbeats_;
  }

  grpc::ServerUnaryReactor* Register(grpc::CallbackServerContext* context,
                                     const internal::v1::RegisterRequest* request,
                                     internal::v1::RegisterResponse* response) override {
    absl::MutexLock lock(&mutex_);
    ++registrations_;
    response->set_epoch(100 + registrations_);
    response->set_lease_ms(absl::ToInt64Milliseconds(lease_));
    response->set_heartbeat_interval_ms(20);
    return Finish(context, grpc::Status::OK);
  }
  grpc::ServerUnaryReactor* Heartbeat(grpc::CallbackServerContext* context,
                                      const internal::v1::HeartbeatRequest* request,
                                      internal::v1::HeartbeatResponse* response) override {
    absl::MutexLock lock(&mutex_);
    ++heartbeats_;
    last_heartbeat_ = *request;
    response->set_drain(drain_);
    if (!abort_next_) return Finish(context, grpc::Status::OK);
    abort_next_ = false;
    return Finish(context, grpc::Status(grpc::StatusCode::ABORTED, "fenced"));
  }
  grpc::ServerUnaryReactor* Deregister(grpc::CallbackServerContext* context,
                                       const internal::v1::DeregisterRequest*,
                                       internal::v1::DeregisterResponse*) override {
    absl::MutexLock lock(&mutex_);
    ++deregistrations_;
    return Finish(context, grpc::Status::OK);
  }

 private:
  static grpc::ServerUnaryReactor* Finish(grpc::CallbackServerContext* context,
                                          const grpc::Status& status) {
    auto* reactor = context->DefaultReactor();
    reactor->Finish(status);
    return reactor;
  }
  bool Wait(const int& counter, int count) {
    absl::MutexLock lock(&mutex_);
    const auto reached = [&] { return counter >= count; };
    return mutex_.AwaitWithTimeout(absl::Condition(&reached), kPatience);
  }

  mutable absl::Mutex mutex_;
  int registrations_ = 0;
  int heartbeats_ = 0;
  int deregistrations_ = 0;
  bool abort_next_ = false;
  bool drain_ = false;
  absl::Duration lease_ = absl::Seconds(30);
  internal::v1::HeartbeatRequest last_heartbeat_;
  std::unique_ptr<GrpcServer> server_;
};

class RegistrationTest : public ::testing::Test {
 protected:
  RegistrationTest() {
    options_.request.mutable_worker()->set_name("w");
    options_.status = [] {
      internal::v1::HeartbeatRequest heartbeat;
      heartbeat.set_state(v1::WORKER_STATE_READY);
      heartbeat.mutable_load()->set_running(4);
      return heartbeat;
    };
    options_.on_drain = [this] {
      if (!drained_.HasBeenNotified()) drained_.Notify();
    };
  }

  bool WaitForEpoch(uint64_t epoch, bool accepted) {
    const absl::Time end = absl::Now() + kPatience;
    while (epochs_.Accepts(epoch) != accepted) {
      if (absl::Now() > end) return false;
      absl::SleepFor(absl::Milliseconds(2));
    }
    return true;
  }

  EpochTable epochs_{true};
  absl::Notification drained_;
  CoordinatorSessionOptions options_;
};

TEST_F(RegistrationTest, RegistersWithEveryCoordinatorUnderItsOwnEpoch) {
  FakeRegistry one, two;
  {
    Registration registration({one.address(), two.address()}, options_, &epochs_);
    EXPECT_TRUE(one.WaitForHeartbeats(2));
    EXPECT_TRUE(two.WaitForHeartbeats(2));
    EXPECT_EQ(one.last_heartbeat().name(), "w");
    EXPECT_EQ(one.last_heartbeat().epoch(), 101u);
    EXPECT_EQ(one.last_heartbeat().load().running(), 4);
    EXPECT_TRUE(epochs_.Accepts(101));
  }
  EXPECT_TRUE(one.WaitForDeregistrations(1));
  EXPECT_TRUE(two.WaitForDeregistrations(1));
  EXPECT_FALSE(epochs_.Accepts(101));
}

TEST_F(RegistrationTest, ANameStandsForAllItsAddresses) {
  FakeRegistry one, two;
  Registration registration({"dns:///coordinators:1"}, options_, &epochs_,
                            [&](const std::string& name) {
                              EXPECT_EQ(name, "dns:///coordinators:1");
                              return std::vector<std::string>{one.address(), two.address()};
                            });
  EXPECT_TRUE(one.WaitForRegistrations(1));
  EXPECT_TRUE(two.WaitForRegistrations(1));
}

TEST_F(RegistrationTest, RegistersAgainWhenFenced) {
  FakeRegistry registry;
  Registration registration({registry.address()}, options_, &epochs_);
  ASSERT_TRUE(registry.WaitForHeartbeats(1));
  registry.AbortNextHeartbeat();
  EXPECT_TRUE(registry.WaitForRegistrations(2));
  EXPECT_TRUE(WaitForEpoch(102, true));
  EXPECT_FALSE(epochs_.Accepts(101));
}

TEST_F(RegistrationTest, LosesItsEpochWithItsLeaseAndComesBack) {
  FakeRegistry registry;
  registry.SetLease(absl::Milliseconds(100));
  const std::string address = registry.address();
  Registration registration({address}, options_, &epochs_);
  ASSERT_TRUE(WaitForEpoch(101, true));
  registry.StopListening();
  EXPECT_TRUE(WaitForEpoch(101, false));
  registry.Listen(address);
  EXPECT_TRUE(WaitForEpoch(102, true));
}

TEST_F(RegistrationTest, PassesTheDrainOn) {
  FakeRegistry registry;
  registry.AskToDrain();
  Registration registration({registry.address()}, options_, &epochs_);
  EXPECT_TRUE(drained_.WaitForNotificationWithTimeout(kPatience));
}

TEST(ResolveCoordinator, PlainAddressesStandForThemselves) {
  EXPECT_THAT(ResolveCoordinator("a.b:5"), ::testing::ElementsAre("a.b:5"));
  EXPECT_THAT(ResolveCoordinator("dns:///localhost:5"), ::testing::Contains("127.0.0.1:5"));
}

}  // namespace
}  // namespace krait
