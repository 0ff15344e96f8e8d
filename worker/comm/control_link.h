#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <thread>

#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "common/bounded_queue.h"
#include "common/clock.h"
#include "worker/comm/frame_socket.h"

namespace krait {

struct ControlLinkOptions {
  absl::Duration beat_interval = absl::Milliseconds(300);
  // A peer that says nothing for so long, or a process that does not run for so long, is fenced.
  absl::Duration silence_limit = absl::Seconds(3);
};

// A group's control channel between two processes: messages in order, and heartbeats, from a thread
// of its own. Either the messages come or the link is lost, which it finds out by itself: the
// connection breaks, the peer is silent, or this process finds that it was stopped. A lost link
// never comes back; the process must end.
class ControlLink {
 public:
  // `on_lost` is called once, on the link's thread, unless a side has left before.
  ControlLink(std::unique_ptr<FrameSocket> socket, const ControlLinkOptions& options,
              std::function<void(const absl::Status&)> on_lost);
  ~ControlLink();
  // Says goodbye, so that the peer may end in peace. Any thread.
  void Leave();
  ControlLink(const ControlLink&) = delete;

  // Any thread. UNAVAILABLE if the link is lost.
  absl::Status Send(std::string_view message);
  // One thread. Empty after `timeout`. UNAVAILABLE with the reason if the link is lost, CANCELLED
  // if the peer has left; what came before is delivered first.
  absl::StatusOr<std::optional<std::string>> Receive(absl::Duration timeout);

  // Heartbeats go out only until `duration` from now: whoever steps vouches for himself, so that a
  // loop that hangs falls silent although this process runs. Before the first call they go out
  // for ever.
  void Vouch(absl::Duration duration);

 private:
  void Run();
  absl::Status Turn();
  absl::Status Take(Frame frame);
  bool Vouched() const { return clock_.Now() < absl::Nanoseconds(vouched_until_ns_.load()); }

  const std::unique_ptr<FrameSocket> socket_;
  const ControlLinkOptions options_;
  const std::function<void(const absl::Status&)> on_lost_;
  const RealClock clock_;
  BoundedQueue<std::string> messages_;
  std::atomic<int64_t> vouched_until_ns_;
  std::atomic<bool> closing_{false};
  // The link's thread.
  absl::Duration heard_;
  absl::Duration last_turn_;
  absl::Duration last_beat_;

  absl::Mutex mutex_;
  absl::Status ended_ ABSL_GUARDED_BY(mutex_);  // why, once it has
  std::thread thread_;
};

}  // namespace krait
