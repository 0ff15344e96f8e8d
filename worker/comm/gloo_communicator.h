#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "kernels/backend.h"
#include "worker/comm/communicator.h"

namespace krait {

struct GlooOptions {
  int rank = 0;
  int size = 1;
  // An address of this machine that the peers' machines reach. One TCP port of it a peer is open
  // until that peer has connected.
  std::string host = "127.0.0.1";
  // Of connecting, and of one exchange. A backstop: whoever steps the group has a deadline of his
  // own and calls Abort.
  absl::Duration timeout = absl::Minutes(2);
};

// One rank that listens for its peers and is not yet connected. The ranks swap their addresses by
// other means (as with NCCL's unique id), then all connect. The processes ignore SIGPIPE.
class GlooEndpoint {
 public:
  // UNAVAILABLE if `host` is not this machine's or the sockets cannot be had.
  static absl::StatusOr<std::unique_ptr<GlooEndpoint>> Listen(const GlooOptions& options);
  ~GlooEndpoint();

  // Opaque; by rank, the address at which that peer finds this rank. This rank's own is empty.
  const std::vector<std::string>& addresses() const;

  // Waits until every peer is connected; called once, at the same time on all ranks. `addresses`,
  // by rank, are what the peers' addresses() say of this rank. Rank r then owns blocks as
  // Communicator says; sums are gathered and added in block order, Gloo adds nothing.
  // UNAVAILABLE if a peer cannot be reached in time. `backend` outlives the communicator.
  absl::StatusOr<std::unique_ptr<Communicator>> Connect(absl::Span<const std::string> addresses,
                                                        Backend* backend);

 private:
  struct State;
  explicit GlooEndpoint(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace krait
