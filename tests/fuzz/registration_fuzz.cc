// What workers tell the registry, in any order. The first byte of a message says which call it is,
// the second how much time passes before it.

#include "common/logging.h"
#include "coordinator/cluster/worker_registry.h"
#include "tests/fuzz/frames.h"
#include "tests/fuzz/fuzz_target.h"

namespace krait {
namespace {

enum Call : unsigned char { kRegister, kHeartbeat, kDeregister, kPlace, kDrain, kNumCalls };

class Cluster {
 public:
  void Apply(std::string_view message) {
    if (message.size() < 2) return;
    now_ += absl::Milliseconds(10 * static_cast<unsigned char>(message[1]));
    const unsigned char call = static_cast<unsigned char>(message[0]) % kNumCalls;
    Dispatch(call, message.substr(2));
    registry_.ExpireLeases(now_);
    CheckState();
  }

 private:
  void Dispatch(unsigned char call, std::string_view body) {
    const int size = static_cast<int>(body.size());
    if (call == kRegister) {
      internal::v1::RegisterRequest request;
      if (request.ParseFromArray(body.data(), size)) CheckEpoch(registry_.Register(request, now_));
    } else if (call == kHeartbeat) {
      internal::v1::HeartbeatRequest request;
      if (request.ParseFromArray(body.data(), size)) (void)registry_.Heartbeat(request, now_);
    } else if (call == kDeregister) {
      internal::v1::DeregisterRequest request;
      if (request.ParseFromArray(body.data(), size)) {
        (void)registry_.Deregister({request.name(), request.epoch()}, now_);
      }
    } else if (call == kPlace) {
      for (const WorkerView& worker : registry_.Routable()) registry_.OnPlaced(worker.key);
    } else {
      (void)registry_.RequestDrain(std::string(body));
    }
  }

  void CheckEpoch(const absl::StatusOr<uint64_t>& epoch) {
    if (!epoch.ok()) return;
    CHECK_GE(*epoch, 1u);
    highest_epoch_ = std::max(highest_epoch_, *epoch);
  }

  void CheckState() {
    for (const v1::Worker& worker : registry_.List()) {
      CHECK_GE(worker.epoch(), 1u);
      CHECK_LE(worker.epoch(), highest_epoch_);
    }
    for (const WorkerView& worker : registry_.Routable()) {
      CHECK_GE(worker.limits.max_context_tokens, 2);
      CHECK_GE(worker.limits.vocab_size, 1);
    }
  }

  WorkerRegistry registry_{{.served = {"model", "digest"}}};
  absl::Duration now_ = absl::Seconds(100);
  uint64_t highest_epoch_ = 0;
};

std::string Message(Call call, const google::protobuf::Message& body, int wait = 1) {
  return std::string{static_cast<char>(call), static_cast<char>(wait)} + body.SerializeAsString();
}

internal::v1::RegisterRequest Registration(const std::string& name, const std::string& instance) {
  internal::v1::RegisterRequest request;
  request.set_wire_version(1);
  request.set_instance_id(instance);
  request.set_max_context_tokens(100);
  request.set_vocab_size(50);
  v1::Worker& worker = *request.mutable_worker();
  worker.set_name(name);
  worker.set_role(v1::WORKER_ROLE_TARGET);
  worker.set_address("127.0.0.1:1");
  worker.set_model("model");
  worker.set_build_id("build");
  worker.set_tokenizer_digest("digest");
  return request;
}

}  // namespace

void FuzzOne(std::string_view input) {
  Cluster cluster;
  for (std::string_view frame : SplitFrames(input)) cluster.Apply(frame);
}

std::vector<std::string> FuzzSeeds() {
  internal::v1::HeartbeatRequest beat;
  beat.set_name("a");
  beat.set_epoch(1);
  beat.set_state(v1::WORKER_STATE_READY);
  beat.mutable_load()->set_running(1);
  internal::v1::DeregisterRequest leave;
  leave.set_name("a");
  leave.set_epoch(1);
  std::string life;
  AppendFrame(Message(kRegister, Registration("a", "one")), life);
  AppendFrame(Message(kHeartbeat, beat), life);
  AppendFrame(Message(kPlace, beat), life);
  AppendFrame(Message(kDeregister, leave), life);
  std::string fenced;
  AppendFrame(Message(kRegister, Registration("a", "one")), fenced);
  AppendFrame(Message(kRegister, Registration("a", "two")), fenced);
  AppendFrame(Message(kRegister, Registration("a", "one")), fenced);
  AppendFrame(std::string{kDrain, 1, 'a'}, fenced);
  std::string expired;
  AppendFrame(Message(kRegister, Registration("a", "one")), expired);
  AppendFrame(Message(kHeartbeat, beat, 255), expired);
  AppendFrame(Message(kHeartbeat, beat, 255), expired);
  return {life, fenced, expired};
}

}  // namespace krait
