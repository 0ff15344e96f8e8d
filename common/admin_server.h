#pragma once

#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace krait {

// Called on the server's threads, possibly several at once. Must not block for long.
struct AdminEndpoints {
  std::function<std::string()> metrics;  // GET /metrics, Prometheus text
  std::function<absl::Status()> live;    // GET /livez: 200 "ok" or 503 and the message
  std::function<absl::Status()> ready;   // GET /readyz: the same
};

// One small HTTP server a process, for operators and probes. At most 4 connections are served at a
// time and 64 wait; a connection that sends nothing for 5 s is closed.
class AdminServer {
 public:
  // `listen` is "host:port"; port 0 picks a free one. UNAVAILABLE names the address if it is taken
  // or cannot be bound, INVALID_ARGUMENT if it is not "host:port".
  static absl::StatusOr<std::unique_ptr<AdminServer>> Start(const std::string& listen,
                                                            AdminEndpoints endpoints);
  // Stops within a second, whatever clients do.
  ~AdminServer();
  AdminServer(const AdminServer&) = delete;

  int port() const { return port_; }                       // the one that was bound
  const std::string& address() const { return address_; }  // "host:port"

 private:
  struct Impl;
  explicit AdminServer(std::unique_ptr<Impl> impl);

  std::unique_ptr<Impl> impl_;
  int port_ = 0;
  std::string address_;
};

}  // namespace krait
