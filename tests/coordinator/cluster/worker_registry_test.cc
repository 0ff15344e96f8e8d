#include "coordinator/cluster/worker_registry.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/build_info.h"
#include "common/field_error.h"

namespace krait {
namespace {

using internal::v1::HeartbeatRequest;
using internal::v1::RegisterRequest;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr absl::Duration kLease = absl::Seconds(3);

RegisterRequest Registration(const std::string& name, const std::string& instance = "life-1") {
  RegisterRequest request;
  request.set_wire_version(kWireVersion);
  request.set_instance_id(instance);
  request.set_max_context_tokens(100);
  request.set_vocab_size(50);
  v1::Worker& worker = *request.mutable_worker();
  worker.set_name(name);
  worker.set_role(v1::WORKER_ROLE_TARGET);
  worker.set_address("127.0.0.1:4000");
  worker.set_model("model");
  worker.set_build_id("build");
  worker.set_weights_digest("weights");
  worker.set_tokenizer_digest("tokenizer");
  return request;
}

class WorkerRegistryTest : public ::testing::Test {
 protected:
  uint64_t Join(const RegisterRequest& request) {
    const auto epoch = registry_.Register(request, now_);
    EXPECT_TRUE(epoch.ok()) << epoch.status();
    return epoch.value_or(0);
  }
  absl::StatusOr<bool> Beat(const std::string& name, uint64_t epoch,
                            v1::WorkerState state = v1::WORKER_STATE_READY) {
    HeartbeatRequest request;
    request.set_name(name);
    request.set_epoch(epoch);
    request.set_state(state);
    return registry_.Heartbeat(request, now_);
  }
  uint64_t JoinReady(const std::string& name) {
    const uint64_t epoch = Join(Registration(name));
    EXPECT_TRUE(Beat(name, epoch).ok());
    return epoch;
  }
  std::vector<std::string> Routable() const {
    std::vector<std::string> names;
    for (const WorkerView& view : registry_.Routable()) names.push_back(view.key.name);
    return names;
  }
  v1::WorkerState State(const std::string& name) const {
    for (const v1::Worker& worker : registry_.List()) {
      if (worker.name() == name) return worker.state();
    }
    return v1::WORKER_STATE_UNSPECIFIED;
  }

  absl::Duration now_ = absl::Seconds(50);
  WorkerRegistry registry_{{.served = {"model", "tokenizer"}, .lease = kLease, .first_epoch = 7}};
};

TEST_F(WorkerRegistryTest, IsRoutableFromItsFirstReadyHeartbeatToItsDrain) {
  const uint64_t epoch = Join(Registration("a"));
  EXPECT_EQ(epoch, 7u);
  EXPECT_EQ(State("a"), v1::WORKER_STATE_JOINING);
  ASSERT_TRUE(Beat("a", epoch, v1::WORKER_STATE_JOINING).ok());
  EXPECT_THAT(Routable(), IsEmpty());
  ASSERT_TRUE(Beat("a", epoch).ok());
  EXPECT_THAT(Routable(), ::testing::ElementsAre("a"));
  ASSERT_TRUE(Beat("a", epoch, v1::WORKER_STATE_DRAINING).ok());
  EXPECT_THAT(Routable(), IsEmpty());
  // Never back: a late heartbeat of before the drain changes nothing.
  ASSERT_TRUE(Beat("a", epoch, v1::WORKER_STATE_READY).ok());
  EXPECT_EQ(State("a"), v1::WORKER_STATE_DRAINING);
}

TEST_F(WorkerRegistryTest, LeaseEndsExactlyWhenItWasNotRenewedForItsLength) {
  const uint64_t epoch = JoinReady("a");
  now_ += kLease - absl::Nanoseconds(1);
  EXPECT_THAT(registry_.ExpireLeases(now_), IsEmpty());
  ASSERT_TRUE(Beat("a", epoch).ok());
  now_ += kLease - absl::Nanoseconds(1);
  EXPECT_THAT(registry_.ExpireLeases(now_), IsEmpty());
  now_ += absl::Nanoseconds(1);
  EXPECT_THAT(registry_.ExpireLeases(now_), ::testing::ElementsAre(WorkerKey{"a", epoch}));
  EXPECT_EQ(State("a"), v1::WORKER_STATE_GONE);
  EXPECT_THAT(registry_.ExpireLeases(now_), IsEmpty());  // reported once
  EXPECT_TRUE(absl::IsAborted(Beat("a", epoch).status()));
}

TEST_F(WorkerRegistryTest, HeartbeatAfterTheLeaseIsAbortedEvenBeforeTheSweep) {
  const uint64_t epoch = JoinReady("a");
  now_ += kLease;
  EXPECT_TRUE(absl::IsAborted(Beat("a", epoch).status()));
}

TEST_F(WorkerRegistryTest, GoneWorkersAreForgottenAfterAMinute) {
  JoinReady("a");
  now_ += kLease;
  registry_.ExpireLeases(now_);
  now_ += absl::Minutes(1) - absl::Nanoseconds(1);
  registry_.ExpireLeases(now_);
  EXPECT_EQ(registry_.List().size(), 1u);
  now_ += absl::Nanoseconds(1);
  registry_.ExpireLeases(now_);
  EXPECT_THAT(registry_.List(), IsEmpty());
}

TEST_F(WorkerRegistryTest, SameInstanceKeepsItsEpochAndState) {
  const uint64_t epoch = JoinReady("a");
  EXPECT_EQ(Join(Registration("a")), epoch);
  EXPECT_EQ(State("a"), v1::WORKER_STATE_READY);
}

TEST_F(WorkerRegistryTest, NewInstanceOfANameFencesTheOldOne) {
  const uint64_t old_epoch = JoinReady("a");
  const uint64_t new_epoch = Join(Registration("a", "life-2"));
  EXPECT_GT(new_epoch, old_epoch);
  EXPECT_EQ(State("a"), v1::WORKER_STATE_JOINING);  // its own first step is still to come
  EXPECT_TRUE(absl::IsAborted(Beat("a", old_epoch).status()));
  EXPECT_TRUE(absl::IsAborted(registry_.Deregister({"a", old_epoch}, now_)));
  const auto again = registry_.Register(Registration("a", "life-1"), now_);
  EXPECT_TRUE(absl::IsAborted(again.status()));
  EXPECT_THAT(std::string(again.status().message()), HasSubstr("fenced"));
  EXPECT_TRUE(Beat("a", new_epoch).ok());
}

TEST_F(WorkerRegistryTest, FencedInstanceMayReturnOnceItsSuccessorIsGone) {
  JoinReady("a");
  Join(Registration("a", "life-2"));
  now_ += kLease;
  registry_.ExpireLeases(now_);
  EXPECT_TRUE(registry_.Register(Registration("a", "life-1"), now_).ok());
}

TEST_F(WorkerRegistryTest, EpochsRiseOverAllWorkersAndLives) {
  uint64_t last = 0;
  for (const char* instance : {"1", "2", "3"}) {
    for (const char* name : {"a", "b"}) {
      const uint64_t epoch = Join(Registration(name, instance));
      EXPECT_GT(epoch, last);
      last = epoch;
    }
  }
}

struct MismatchCase {
  const char* what;
  std::function<void(RegisterRequest&)> edit;
  const char* ours;
  const char* theirs;
};

TEST_F(WorkerRegistryTest, RefusalsNameBothValues) {
  JoinReady("peer");
  const MismatchCase cases[] = {
      {"wire_version", [](auto& r) { r.set_wire_version(kWireVersion + 2); }, "1", "3"},
      {"model", [](auto& r) { r.mutable_worker()->set_model("other"); }, "\"model\"", "\"other\""},
      {"tokenizer_digest", [](auto& r) { r.mutable_worker()->set_tokenizer_digest("t2"); },
       "\"tokenizer\"", "\"t2\""},
      {"weights_digest", [](auto& r) { r.mutable_worker()->set_weights_digest("w2"); },
       "\"weights\"", "\"w2\""},
      {"build_id", [](auto& r) { r.mutable_worker()->set_build_id("b2"); }, "\"build\"", "\"b2\""},
  };
  for (const MismatchCase& c : cases) {
    RegisterRequest request = Registration("new");
    c.edit(request);
    const auto epoch = registry_.Register(request, now_);
    EXPECT_TRUE(absl::IsFailedPrecondition(epoch.status())) << c.what;
    for (const char* part : {c.what, c.ours, c.theirs}) {
      EXPECT_THAT(std::string(epoch.status().message()), HasSubstr(part));
    }
  }
  EXPECT_EQ(registry_.List().size(), 1u);  // refusals leave no trace
}

TEST_F(WorkerRegistryTest, NeighbouringWireVersionInteroperates) {
  RegisterRequest request = Registration("a");
  request.set_wire_version(kWireVersion + 1);
  EXPECT_TRUE(registry_.Register(request, now_).ok());
}

TEST_F(WorkerRegistryTest, DigestsAreComparedWithLivePeersOnly) {
  JoinReady("a");
  now_ += kLease;
  registry_.ExpireLeases(now_);
  RegisterRequest next = Registration("b");
  next.mutable_worker()->set_build_id("build-2");
  next.mutable_worker()->set_weights_digest("weights-2");
  EXPECT_TRUE(registry_.Register(next, now_).ok());
  // A worker that is alone may be replaced by its next build under its own name.
  next.set_instance_id("life-2");
  next.mutable_worker()->set_build_id("build-3");
  EXPECT_TRUE(registry_.Register(next, now_).ok());
}

TEST_F(WorkerRegistryTest, DraftsAreListedNeverRoutedAndMayDiffer) {
  RegisterRequest request = Registration("draft");
  request.mutable_worker()->set_role(v1::WORKER_ROLE_DRAFT);
  request.mutable_worker()->set_model("small");
  request.mutable_worker()->set_weights_digest("other");
  const uint64_t epoch = Join(request);
  ASSERT_TRUE(Beat("draft", epoch).ok());
  EXPECT_EQ(State("draft"), v1::WORKER_STATE_READY);
  EXPECT_THAT(Routable(), IsEmpty());
  EXPECT_EQ(registry_.Limits(), std::nullopt);
  JoinReady("target");  // not compared with a draft
}

TEST_F(WorkerRegistryTest, MalformedRegistrationsNameTheField) {
  const std::pair<const char*, std::function<void(RegisterRequest&)>> cases[] = {
      {"worker.name", [](auto& r) { r.mutable_worker()->set_name("a b"); }},
      {"worker.model", [](auto& r) { r.mutable_worker()->set_model(""); }},
      {"worker.address", [](auto& r) { r.mutable_worker()->set_address("nowhere"); }},
      {"worker.role", [](auto& r) { r.mutable_worker()->clear_role(); }},
      {"instance_id", [](auto& r) { r.clear_instance_id(); }},
      {"max_context_tokens", [](auto& r) { r.clear_max_context_tokens(); }},
      {"vocab_size", [](auto& r) { r.set_vocab_size(-5); }},
      {"worker.weights_digest",
       [](auto& r) { r.mutable_worker()->set_weights_digest(std::string(300, 'x')); }},
  };
  for (const auto& [field, edit] : cases) {
    RegisterRequest request = Registration("a");
    edit(request);
    EXPECT_EQ(ErrorField(registry_.Register(request, now_).status()), field);
  }
}

TEST_F(WorkerRegistryTest, OperatorsDrainReachesTheWorkerByItsHeartbeat) {
  const uint64_t epoch = JoinReady("a");
  EXPECT_FALSE(*Beat("a", epoch));
  EXPECT_TRUE(registry_.RequestDrain("a").ok());
  EXPECT_THAT(Routable(), IsEmpty());
  EXPECT_TRUE(*Beat("a", epoch));
  EXPECT_TRUE(absl::IsNotFound(registry_.RequestDrain("nobody")));
}

TEST_F(WorkerRegistryTest, UnreachableWorkerIsPassedOverUntilItRenews) {
  const uint64_t epoch = JoinReady("a");
  registry_.OnUnreachable({"a", epoch});
  EXPECT_THAT(Routable(), IsEmpty());
  ASSERT_TRUE(Beat("a", epoch).ok());
  EXPECT_THAT(Routable(), ::testing::ElementsAre("a"));
}

TEST_F(WorkerRegistryTest, PlacementsAreCountedPerLife) {
  const uint64_t epoch = JoinReady("a");
  registry_.OnPlaced({"a", epoch});
  registry_.OnPlaced({"a", epoch});
  registry_.OnFinished({"a", epoch});
  EXPECT_EQ(registry_.Routable()[0].streams, 1);
  EXPECT_EQ(registry_.Routable()[0].placed_since, 2);
  ASSERT_TRUE(Beat("a", epoch).ok());
  EXPECT_EQ(registry_.Routable()[0].placed_since, 0);
  const uint64_t next = Join(Registration("a", "life-2"));
  ASSERT_TRUE(Beat("a", next).ok());
  registry_.OnFinished({"a", epoch});  // of the old life: no effect
  EXPECT_EQ(registry_.Routable()[0].streams, 0);
}

TEST_F(WorkerRegistryTest, LimitsAreTheSmallestOfLiveTargetsAndOutliveThem) {
  RegisterRequest small = Registration("small");
  small.set_max_context_tokens(60);
  Join(small);
  JoinReady("large");
  EXPECT_EQ(registry_.Limits()->max_context_tokens, 60);
  now_ += kLease;
  registry_.ExpireLeases(now_);
  EXPECT_EQ(registry_.Limits()->max_context_tokens, 60);
}

TEST_F(WorkerRegistryTest, NumberOfWorkersIsBounded) {
  for (int i = 0; i < 256; ++i) Join(Registration("w" + std::to_string(i)));
  const auto epoch = registry_.Register(Registration("one-too-many"), now_);
  EXPECT_TRUE(absl::IsResourceExhausted(epoch.status()));
  EXPECT_TRUE(registry_.Register(Registration("w3", "life-2"), now_).ok());
}

}  // namespace
}  // namespace krait
