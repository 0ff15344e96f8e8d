#include "coordinator/cluster/worker_registry.h"

#include <algorithm>
#include <cstdint>

#include "absl/strings/str_cat.h"
#include "common/logging.h"
#include "common/status_macros.h"
#include "coordinator/cluster/registration_check.h"

namespace krait {
namespace {

using internal::v1::HeartbeatRequest;
using internal::v1::RegisterRequest;

constexpr size_t kMaxWorkers = 256;
constexpr size_t kMaxFenced = 8;
constexpr absl::Duration kForgetAfter = absl::Minutes(1);

// A worker's own state never moves it back: DRAINING ends in GONE.
bool MovesForward(v1::WorkerState from, v1::WorkerState to) {
  return to > from && to <= v1::WORKER_STATE_DRAINING;
}

}  // namespace

WorkerRegistry::WorkerRegistry(Options options)
    : options_(std::move(options)), next_epoch_(options_.first_epoch) {}

absl::StatusOr<uint64_t> WorkerRegistry::Register(const RegisterRequest& request,
                                                  absl::Duration now) {
  RETURN_IF_ERROR(CheckRegistration(request));
  absl::MutexLock lock(&mutex_);
  RETURN_IF_ERROR(CheckCompatible(request));
  RETURN_IF_ERROR(CheckNotFenced(request));
  const std::string& name = request.worker().name();
  if (members_.count(name) == 0 && members_.size() >= kMaxWorkers) {
    return absl::ResourceExhaustedError(absl::StrCat("at most ", kMaxWorkers, " workers"));
  }
  Member& member = members_[name];
  const bool repeated =
      member.instance_id == request.instance_id() && member.live() && now < member.lease_end;
  if (!repeated) Admit(request, member);
  member.lease_end = now + options_.lease;
  RefreshLimits();
  return member.worker.epoch();
}

absl::Status WorkerRegistry::CheckCompatible(const RegisterRequest& request) const {
  const v1::Worker& worker = request.worker();
  // A draft may be of any model: its target decides whether it can use it.
  if (worker.role() != v1::WORKER_ROLE_TARGET) return absl::OkStatus();
  const ServedModel& served = options_.served;
  if (worker.model() != served.model) {
    return MismatchError("model", served.model, worker.name(), worker.model());
  }
  if (worker.tokenizer_digest() != served.tokenizer_digest) {
    return MismatchError("tokenizer_digest", served.tokenizer_digest, worker.name(),
                         worker.tokenizer_digest());
  }
  return CheckAgainstPeers(worker);
}

// Two targets must give the same bits, or a retry could change a request's tokens.
absl::Status WorkerRegistry::CheckAgainstPeers(const v1::Worker& worker) const {
  for (const auto& [name, member] : members_) {
    if (name == worker.name() || !member.live_target()) continue;
    const v1::Worker& peer = member.worker;
    if (peer.weights_digest() != worker.weights_digest()) {
      return MismatchError("weights_digest", peer.weights_digest(), worker.name(),
                           worker.weights_digest());
    }
    if (peer.build_id() != worker.build_id()) {
      return MismatchError("build_id", peer.build_id(), worker.name(), worker.build_id());
    }
  }
  return absl::OkStatus();
}

absl::Status WorkerRegistry::CheckNotFenced(const RegisterRequest& request) const {
  const auto found = members_.find(request.worker().name());
  if (found == members_.end() || !found->second.live()) return absl::OkStatus();
  const auto& fenced = found->second.fenced;
  if (std::find(fenced.begin(), fenced.end(), request.instance_id()) == fenced.end()) {
    return absl::OkStatus();
  }
  return absl::AbortedError(
      absl::StrCat("fenced: a newer instance of worker ", found->first, " has registered"));
}

void WorkerRegistry::Admit(const RegisterRequest& request, Member& member) {
  std::deque<std::string> fenced = std::move(member.fenced);
  if (!member.instance_id.empty() && member.instance_id != request.instance_id()) {
    fenced.push_back(member.instance_id);
    if (fenced.size() > kMaxFenced) fenced.pop_front();
  }
  member = Member();
  member.fenced = std::move(fenced);
  member.worker = request.worker();
  member.worker.set_epoch(next_epoch_++);
  member.worker.set_state(v1::WORKER_STATE_JOINING);
  member.worker.clear_load();
  member.instance_id = request.instance_id();
  member.limits = {request.max_context_tokens(), request.vocab_size()};
}

absl::StatusOr<bool> WorkerRegistry::Heartbeat(const HeartbeatRequest& request,
                                               absl::Duration now) {
  absl::MutexLock lock(&mutex_);
  Member* member = Find({request.name(), request.epoch()});
  if (member == nullptr || !member->live() || now >= member->lease_end) {
    return absl::AbortedError(absl::StrCat("epoch ", request.epoch(),
                                           " is not current or its lease has ended: register"));
  }
  member->lease_end = now + options_.lease;
  member->unreachable = false;
  member->placed_since = 0;
  *member->worker.mutable_load() = request.load();
  member->worker.set_draft_connected(request.draft_connected());
  if (MovesForward(member->worker.state(), request.state())) {
    member->worker.set_state(request.state());
  }
  return member->drain_requested;
}

absl::Status WorkerRegistry::Deregister(const WorkerKey& key, absl::Duration now) {
  absl::MutexLock lock(&mutex_);
  Member* member = Find(key);
  if (member == nullptr) {
    return absl::AbortedError(absl::StrCat("epoch ", key.epoch, " is not current"));
  }
  MakeGone(*member, now);
  RefreshLimits();
  return absl::OkStatus();
}

absl::Status WorkerRegistry::RequestDrain(const std::string& name) {
  absl::MutexLock lock(&mutex_);
  const auto found = members_.find(name);
  if (found == members_.end() || !found->second.live()) {
    return absl::NotFoundError("no live worker has this name");
  }
  found->second.drain_requested = true;
  found->second.worker.set_state(v1::WORKER_STATE_DRAINING);
  return absl::OkStatus();
}

std::vector<WorkerKey> WorkerRegistry::ExpireLeases(absl::Duration now) {
  absl::MutexLock lock(&mutex_);
  std::vector<WorkerKey> gone;
  for (auto it = members_.begin(); it != members_.end();) {
    Member& member = it->second;
    if (member.live() && now >= member.lease_end) {
      MakeGone(member, now);
      gone.push_back({it->first, member.worker.epoch()});
    }
    const bool forget = !member.live() && now >= member.gone_since + kForgetAfter;
    it = forget ? members_.erase(it) : std::next(it);
  }
  if (!gone.empty()) RefreshLimits();
  return gone;
}

std::vector<WorkerView> WorkerRegistry::Routable() const {
  absl::MutexLock lock(&mutex_);
  std::vector<WorkerView> views;
  for (const auto& [name, member] : members_) {
    if (!IsRoutable(member)) continue;
    views.push_back({.key = {name, member.worker.epoch()},
                     .address = member.worker.address(),
                     .load = member.worker.load(),
                     .placed_since = member.placed_since,
                     .streams = member.streams,
                     .limits = member.limits});
  }
  return views;
}

bool WorkerRegistry::Full() const {
  const std::vector<WorkerView> workers = Routable();
  return !workers.empty() && std::all_of(workers.begin(), workers.end(),
                                         [](const WorkerView& worker) { return worker.full(); });
}

int WorkerRegistry::Capacity() const {
  absl::MutexLock lock(&mutex_);
  int64_t capacity = 0;
  for (const auto& [name, member] : members_) {
    if (IsRoutable(member)) capacity += member.worker.load().max_running();
  }
  return static_cast<int>(std::clamp<int64_t>(capacity, 0, INT32_MAX));
}

void WorkerRegistry::OnPlaced(const WorkerKey& key) {
  absl::MutexLock lock(&mutex_);
  Member* member = Find(key);
  if (member == nullptr) return;
  ++member->placed_since;
  ++member->streams;
}

void WorkerRegistry::OnFinished(const WorkerKey& key) {
  absl::MutexLock lock(&mutex_);
  Member* member = Find(key);
  if (member == nullptr) return;
  CHECK_INVARIANT(member->streams > 0);
  --member->streams;
}

void WorkerRegistry::OnUnreachable(const WorkerKey& key) {
  absl::MutexLock lock(&mutex_);
  if (Member* member = Find(key)) member->unreachable = true;
}

std::vector<v1::Worker> WorkerRegistry::List() const {
  absl::MutexLock lock(&mutex_);
  std::vector<v1::Worker> workers;
  for (const auto& [name, member] : members_) workers.push_back(member.worker);
  return workers;
}

std::optional<ModelLimits> WorkerRegistry::Limits() const {
  absl::MutexLock lock(&mutex_);
  return limits_;
}

std::string WorkerRegistry::WeightsDigest() const {
  absl::MutexLock lock(&mutex_);
  for (const auto& [name, member] : members_) {
    if (member.live_target() && member.worker.state() == v1::WORKER_STATE_READY) {
      return member.worker.weights_digest();
    }
  }
  return "";
}

void WorkerRegistry::RefreshLimits() {
  std::optional<ModelLimits> limits;
  for (const auto& [name, member] : members_) {
    if (!member.live_target()) continue;
    if (!limits.has_value()) limits = member.limits;
    limits->max_context_tokens =
        std::min(limits->max_context_tokens, member.limits.max_context_tokens);
    limits->vocab_size = std::min(limits->vocab_size, member.limits.vocab_size);
  }
  if (limits.has_value()) limits_ = limits;
}

WorkerRegistry::Member* WorkerRegistry::Find(const WorkerKey& key) {
  const auto found = members_.find(key.name);
  if (found == members_.end() || found->second.worker.epoch() != key.epoch) return nullptr;
  return &found->second;
}

bool WorkerRegistry::IsRoutable(const Member& member) {
  return member.live_target() && member.worker.state() == v1::WORKER_STATE_READY &&
         !member.unreachable;
}

void WorkerRegistry::MakeGone(Member& member, absl::Duration now) {
  member.worker.set_state(v1::WORKER_STATE_GONE);
  member.worker.set_draft_connected(false);
  member.worker.clear_load();
  member.gone_since = now;
}

}  // namespace krait
