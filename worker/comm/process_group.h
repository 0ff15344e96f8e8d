#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "worker/comm/control_link.h"

namespace krait {

struct ProcessGroupOptions {
  int num_processes = 1;
  int process_index = 0;
  // Where process 0 listens and the others call.
  std::string host = "127.0.0.1";
  int port = 0;
  // What must be equal in all processes, e.g. "build=... page_size=16".
  std::string settings;
  absl::Duration join_timeout = absl::Minutes(1);
  ControlLinkOptions link;
};

// The processes that host the ranks of one model, and the control channel from process 0, which
// decides, to each of the others. Host memory only: tensors travel by Communicator. When one
// process is lost, the group is: `on_lost` is called, on a thread of the group's own, and the
// process must end.
//
// Plain sockets carry it: a broken connection shows at once, a message costs one write, and this
// rung of the worker knows no RPC library.
class ProcessGroup {
 public:
  // Returns when all processes are there. UNAVAILABLE if they are not in time or the port cannot be
  // had; INVALID_ARGUMENT, in the process that is refused, naming both settings.
  static absl::StatusOr<std::unique_ptr<ProcessGroup>> Join(
      const ProcessGroupOptions& options, std::function<void(const absl::Status&)> on_lost);
  // For the others, this process is then lost, unless it left before.
  ~ProcessGroup();
  // Says goodbye to the others: they end in peace.
  void Leave();

  // Every process gives a text; every process gets all of them, by process. All make the same
  // calls in the same order, before any Broadcast. The errors of ControlLink::Receive.
  absl::StatusOr<std::vector<std::string>> Exchange(std::string_view mine);

  // Process 0: to all others. UNAVAILABLE if one is lost.
  absl::Status Broadcast(std::string_view message);
  // The others: as ControlLink.
  absl::StatusOr<std::optional<std::string>> Receive(absl::Duration timeout);
  void Vouch(absl::Duration duration);

  bool leads() const { return options_.process_index == 0; }
  // An address of this machine that the other processes reach.
  const std::string& local_host() const { return local_host_; }

 private:
  explicit ProcessGroup(const ProcessGroupOptions& options) : options_(options) {}
  using Sockets = std::vector<std::unique_ptr<FrameSocket>>;
  static absl::StatusOr<Sockets> Gather(const ProcessGroupOptions& options);
  static absl::StatusOr<std::unique_ptr<FrameSocket>> Call(const ProcessGroupOptions& options);

  const ProcessGroupOptions options_;
  std::string local_host_;
  // Process 0: to each other process. The others: to process 0.
  std::vector<std::unique_ptr<ControlLink>> links_;
};

// Texts as one text, and back. INTERNAL if the bytes are no list.
std::string PackStrings(absl::Span<const std::string> strings);
absl::StatusOr<std::vector<std::string>> UnpackStrings(std::string_view packed);

}  // namespace krait
