#include "worker/comm/frame_socket.h"

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/status_macros.h"

namespace krait {
namespace {

constexpr size_t kHeaderSize = 5;
constexpr absl::Duration kRedial = absl::Milliseconds(50);

absl::Status Failed(std::string_view what) {
  return absl::UnavailableError(absl::StrCat(std::string(what), ": ", strerror(errno)));
}

absl::Status Closed() { return absl::UnavailableError("the connection was closed"); }

// True if `fd` is ready for `events` (or broken: the next call says how).
bool Await(int fd, short events, absl::Duration timeout) {
  pollfd waits{.fd = fd, .events = events, .revents = 0};
  const int64_t ms = std::clamp<int64_t>(absl::ToInt64Milliseconds(timeout), 0, 1 << 30);
  return poll(&waits, 1, static_cast<int>(ms)) > 0;
}

using Addresses = std::unique_ptr<addrinfo, void (*)(addrinfo*)>;

absl::StatusOr<Addresses> Resolve(const std::string& host, int port, int flags) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = flags | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  const int error = getaddrinfo(host.c_str(), absl::StrCat(port).c_str(), &hints, &found);
  if (error == 0) return Addresses(found, freeaddrinfo);
  return absl::UnavailableError(absl::StrCat(host, ": ", gai_strerror(error)));
}

int OpenSocket(const addrinfo& address) {
  return socket(address.ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
}

// -1 if nobody answers within a second.
int TryDial(const addrinfo& address) {
  const int fd = OpenSocket(address);
  if (fd < 0) return -1;
  int error = 0;
  socklen_t length = sizeof(error);
  if (connect(fd, address.ai_addr, address.ai_addrlen) == 0) return fd;
  if (errno == EINPROGRESS && Await(fd, POLLOUT, absl::Seconds(1)) &&
      getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) == 0 && error == 0) {
    return fd;
  }
  close(fd);
  return -1;
}

}  // namespace

FrameSocket::FrameSocket(int fd) : fd_(fd) {
  const int on = 1;
  setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

FrameSocket::~FrameSocket() { close(fd_); }

absl::StatusOr<std::unique_ptr<FrameSocket>> FrameSocket::Dial(const std::string& host, int port,
                                                               absl::Duration patience) {
  const absl::Time end = absl::Now() + patience;
  for (;;) {
    const absl::StatusOr<Addresses> addresses = Resolve(host, port, 0);
    const int fd = addresses.ok() ? TryDial(**addresses) : -1;
    if (fd >= 0) return std::make_unique<FrameSocket>(fd);
    if (absl::Now() >= end) {
      return absl::UnavailableError(absl::StrCat("nobody answers on ", host, ":", port));
    }
    absl::SleepFor(kRedial);
  }
}

absl::Status FrameSocket::Send(uint8_t kind, std::string_view payload, absl::Duration patience) {
  std::string frame(kHeaderSize, '\0');
  const auto size = static_cast<uint32_t>(payload.size());
  std::memcpy(frame.data(), &size, sizeof(size));
  frame[4] = static_cast<char>(kind);
  frame.append(payload);
  absl::MutexLock lock(&send_mutex_);
  for (size_t sent = 0; sent < frame.size();) {
    const ssize_t count = send(fd_, frame.data() + sent, frame.size() - sent, MSG_NOSIGNAL);
    if (count > 0) {
      sent += count;
    } else if (errno != EINTR && errno != EAGAIN) {
      return Failed("send");
    } else if (!Await(fd_, POLLOUT, patience)) {
      return absl::UnavailableError("the peer takes nothing");
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::optional<Frame>> FrameSocket::TakeFrame() {
  if (received_.size() < kHeaderSize) return std::nullopt;
  uint32_t size = 0;
  std::memcpy(&size, received_.data(), sizeof(size));
  if (size > kMaxPayload) {
    return absl::InternalError(absl::StrCat("a frame of ", size, " bytes, at most ", kMaxPayload));
  }
  if (received_.size() - kHeaderSize < size) return std::nullopt;
  Frame frame{.kind = static_cast<uint8_t>(received_[4]),
              .payload = received_.substr(kHeaderSize, size)};
  received_.erase(0, kHeaderSize + size);
  return frame;
}

absl::StatusOr<std::optional<Frame>> FrameSocket::Receive(absl::Duration timeout) {
  for (;;) {
    ASSIGN_OR_RETURN(std::optional<Frame> frame, TakeFrame());
    if (frame.has_value()) return frame;
    if (!Await(fd_, POLLIN, timeout)) return std::nullopt;
    char chunk[64 << 10];
    const ssize_t count = recv(fd_, chunk, sizeof(chunk), 0);
    if (count > 0) {
      received_.append(chunk, count);
    } else if (count == 0) {
      return Closed();
    } else if (errno != EINTR && errno != EAGAIN) {
      return Failed("recv");
    }
  }
}

void FrameSocket::Shutdown() { shutdown(fd_, SHUT_RDWR); }

std::string FrameSocket::local_host() const {
  sockaddr_storage address{};
  socklen_t length = sizeof(address);
  char host[NI_MAXHOST] = "";
  getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &length);
  getnameinfo(reinterpret_cast<sockaddr*>(&address), length, host, sizeof(host), nullptr, 0,
              NI_NUMERICHOST);
  return host;
}

absl::StatusOr<std::unique_ptr<FrameListener>> FrameListener::Listen(const std::string& host,
                                                                     int port) {
  ASSIGN_OR_RETURN(const Addresses addresses, Resolve(host, port, AI_PASSIVE));
  const int fd = OpenSocket(*addresses);
  const int on = 1;
  sockaddr_storage bound{};
  socklen_t length = sizeof(bound);
  if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 ||
      bind(fd, addresses->ai_addr, addresses->ai_addrlen) != 0 || listen(fd, 64) != 0 ||
      getsockname(fd, reinterpret_cast<sockaddr*>(&bound), &length) != 0) {
    const absl::Status status = Failed(absl::StrCat("cannot listen on ", host, ":", port));
    if (fd >= 0) close(fd);
    return status;
  }
  const int bound_port =
      ntohs(bound.ss_family == AF_INET6 ? reinterpret_cast<sockaddr_in6*>(&bound)->sin6_port
                                        : reinterpret_cast<sockaddr_in*>(&bound)->sin_port);
  return std::unique_ptr<FrameListener>(new FrameListener(fd, bound_port));
}

FrameListener::~FrameListener() { close(fd_); }

absl::StatusOr<std::unique_ptr<FrameSocket>> FrameListener::Accept(absl::Duration timeout) {
  if (!Await(fd_, POLLIN, timeout)) return absl::DeadlineExceededError("nobody called");
  const int fd = accept4(fd_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (fd < 0) return Failed("accept");
  return std::make_unique<FrameSocket>(fd);
}

}  // namespace krait
