#pragma once

#include <grpcpp/grpcpp.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/control_queue.h"
#include "krait/config.pb.h"

namespace krait {

struct GrpcServerOptions {
  std::string listen = "127.0.0.1:0";  // "host:port"; port 0 picks a free one
  bool insecure_plaintext = false;     // allow plaintext off loopback
  int grpc_memory_mib = 256;           // ResourceQuota: all requests and streams together
  int max_request_kib = 1024;
  int max_metadata_kib = 8;
  int max_concurrent_streams = 1024;  // on one connection
  int handshake_timeout_ms = 10'000;
  int idle_timeout_ms = 300'000;
};

// `limits` over these defaults. INVALID_ARGUMENT names the field, the value and the range.
absl::StatusOr<GrpcServerOptions> MakeGrpcServerOptions(const std::string& listen,
                                                        bool insecure_plaintext,
                                                        const ServerLimits& limits,
                                                        int default_max_request_kib);

class HealthService;

// E.g. {v1::GenerationService::service_full_name(), &service}.
struct NamedService {
  std::string name;  // "krait.v1.GenerationService": what health checks ask for
  grpc::Service* service;
  // Has the methods served that must be answered under any load; called once, after the start.
  std::function<void(ControlQueue&)> serve_control = {};
};

// The one place that builds a gRPC server. It sets what a server needs to survive hostile or broken
// peers (memory quota, message, header and stream limits, keepalive enforcement, idle connections
// closed), never shares its port, and adds grpc.health.v1 and reflection. Thread-safe.
class GrpcServer {
 public:
  // Starts serving `services`, which are borrowed and must outlive this object. Health is
  // NOT_SERVING until SetServing(true). FAILED_PRECONDITION for plaintext off loopback without the
  // flag, UNAVAILABLE naming the address if it is taken or cannot be bound.
  static absl::StatusOr<std::unique_ptr<GrpcServer>> Start(
      const GrpcServerOptions& options, const std::vector<NamedService>& services);
  // Shutdown(0) if that was not called.
  ~GrpcServer();
  GrpcServer(const GrpcServer&) = delete;

  int port() const { return port_; }                       // the one that was bound
  const std::string& address() const { return address_; }  // "host:port" with that port
  // What this machine dials to reach the server: a wildcard host becomes loopback.
  const std::string& loopback_address() const { return loopback_address_; }

  // Health of "" and of every service.
  void SetServing(bool serving);

  // Health NOT_SERVING, no new calls; waits for running calls, at most `grace`, then cancels them.
  // Returns when all are gone. Idempotent.
  void Shutdown(absl::Duration grace);

 private:
  explicit GrpcServer(std::unique_ptr<HealthService> health);
  void ServeControl(const std::vector<NamedService>& services);

  const std::unique_ptr<HealthService> health_;
  int port_ = 0;
  std::string address_;
  std::string loopback_address_;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<ControlQueue> control_;
};

}  // namespace krait
