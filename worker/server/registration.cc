#include "worker/server/registration.h"

#include <arpa/inet.h>
#include <netdb.h>

#include <set>

#include "absl/strings/match.h"
#include "common/address.h"
#include "common/logging.h"

namespace krait {
namespace {

constexpr char kDnsScheme[] = "dns:///";
constexpr absl::Duration kResolveInterval = absl::Seconds(5);

std::string NumericHost(const addrinfo& info) {
  char host[NI_MAXHOST] = "";
  getnameinfo(info.ai_addr, info.ai_addrlen, host, sizeof(host), nullptr, 0, NI_NUMERICHOST);
  return host;
}

}  // namespace

std::vector<std::string> ResolveCoordinator(const std::string& coordinator) {
  if (!absl::StartsWith(coordinator, kDnsScheme)) return {coordinator};
  const auto where = ParseHostPort(coordinator.substr(sizeof(kDnsScheme) - 1));
  if (!where.ok()) return {};
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* list = nullptr;
  if (getaddrinfo(where->host.c_str(), nullptr, &hints, &list) != 0) return {};
  std::vector<std::string> addresses;
  for (const addrinfo* info = list; info != nullptr; info = info->ai_next) {
    addresses.push_back(FormatHostPort(NumericHost(*info), where->port));
  }
  freeaddrinfo(list);
  return addresses;
}

Registration::Registration(std::vector<std::string> coordinators, CoordinatorSessionOptions options,
                           EpochTable* epochs, Resolver resolver)
    : coordinators_(std::move(coordinators)),
      options_(std::move(options)),
      epochs_(epochs),
      resolver_(std::move(resolver)) {
  thread_ = std::thread([this] { Run(); });
}

Registration::~Registration() {
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
  }
  thread_.join();
  absl::MutexLock lock(&mutex_);
  for (auto& [address, session] : sessions_) session->Stop();  // all at once, then join each
  sessions_.clear();
}

void Registration::Poke() {
  absl::MutexLock lock(&mutex_);
  for (auto& [address, session] : sessions_) session->Poke();
}

void Registration::Run() {
  do {
    Refresh();
  } while (WaitForNext());
}

void Registration::Refresh() {
  std::set<std::string> wanted;
  for (const std::string& coordinator : coordinators_) {
    const std::vector<std::string> addresses = resolver_(coordinator);
    // A name server that fails for a moment must not cost the coordinators we have.
    if (addresses.empty()) return ReportUnresolved(coordinator);
    wanted.insert(addresses.begin(), addresses.end());
  }
  reported_unresolved_ = false;
  std::vector<std::unique_ptr<CoordinatorSession>> left;  // stopped after the lock is released
  absl::MutexLock lock(&mutex_);
  for (auto it = sessions_.begin(); it != sessions_.end();) {
    if (wanted.count(it->first) > 0) {
      ++it;
      continue;
    }
    left.push_back(std::move(it->second));
    it = sessions_.erase(it);
  }
  for (const std::string& address : wanted) {
    auto& session = sessions_[address];
    if (session == nullptr) {
      session = std::make_unique<CoordinatorSession>(address, options_, epochs_);
    }
  }
}

// Once, until names resolve again: without it a worker that no coordinator knows of looks healthy.
void Registration::ReportUnresolved(const std::string& coordinator) {
  if (reported_unresolved_) return;
  reported_unresolved_ = true;
  LOG(WARNING) << "coordinators=" << coordinator << " msg=\"the name does not resolve\"";
}

bool Registration::WaitForNext() {
  absl::MutexLock lock(&mutex_);
  mutex_.AwaitWithTimeout(absl::Condition(&stopping_), kResolveInterval);
  return !stopping_;
}

}  // namespace krait
