#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace krait {

// A message between two processes of a group: a kind and its bytes.
struct Frame {
  uint8_t kind = 0;
  std::string payload;
};

// Frames over one TCP connection: length (32 bits, little-endian), kind, payload.
class FrameSocket {
 public:
  // Plans of thousands of long prompts stay far below it.
  static constexpr uint32_t kMaxPayload = 256u << 20;

  // Calls until somebody answers. UNAVAILABLE after `patience`.
  static absl::StatusOr<std::unique_ptr<FrameSocket>> Dial(const std::string& host, int port,
                                                           absl::Duration patience);
  explicit FrameSocket(int fd);  // owns it
  ~FrameSocket();
  FrameSocket(const FrameSocket&) = delete;

  // Any thread. UNAVAILABLE if the peer is gone or takes nothing for `patience`.
  absl::Status Send(uint8_t kind, std::string_view payload, absl::Duration patience);
  // One thread. Empty if no whole frame has come after `timeout`; what has come is kept.
  // UNAVAILABLE once the connection is closed; INTERNAL if a frame is too long.
  absl::StatusOr<std::optional<Frame>> Receive(absl::Duration timeout);
  // Any thread: wakes both.
  void Shutdown();
  // The address by which the peer's machine knows this one.
  std::string local_host() const;

 private:
  absl::StatusOr<std::optional<Frame>> TakeFrame();

  const int fd_;
  absl::Mutex send_mutex_;
  std::string received_;  // receiving thread
};

// Where the processes of a group call the one of rank 0.
class FrameListener {
 public:
  // UNAVAILABLE if the port is in use or the host is not this machine's. Port 0 picks one.
  static absl::StatusOr<std::unique_ptr<FrameListener>> Listen(const std::string& host, int port);
  ~FrameListener();
  FrameListener(const FrameListener&) = delete;

  // DEADLINE_EXCEEDED if nobody calls within `timeout`.
  absl::StatusOr<std::unique_ptr<FrameSocket>> Accept(absl::Duration timeout);
  int port() const { return port_; }

 private:
  FrameListener(int fd, int port) : fd_(fd), port_(port) {}
  const int fd_;
  const int port_;
};

}  // namespace krait
