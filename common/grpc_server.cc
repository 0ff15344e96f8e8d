#include "common/grpc_server.h"

#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/resource_quota.h>
#include <sys/resource.h>

#include <chrono>

#include "absl/strings/str_cat.h"
#include "common/address.h"
#include "common/field_error.h"
#include "common/health_service.h"
#include "common/logging.h"
#include "common/status_macros.h"

namespace krait {
namespace {

constexpr int kMinute = 60'000;  // milliseconds

absl::Status SetLimit(const char* field, bool present, int value, int low, int high, int& out) {
  if (!present) return absl::OkStatus();
  if (value < low || value > high) {
    return FieldError(absl::StrCat("limits.", field),
                      absl::StrCat("must be ", low, " to ", high, ", got ", value));
  }
  out = value;
  return absl::OkStatus();
}

// Running out of descriptors stops gRPC 1.51 from accepting for good, so take all we may have.
void RaiseFileDescriptorLimit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
  if (limit.rlim_cur < 4096) {
    LOG(WARNING) << "file_descriptors=" << limit.rlim_cur << " msg=\"fewer than 4096 are allowed\"";
  }
}

void SetLimits(const GrpcServerOptions& options, grpc::ServerBuilder& builder) {
  grpc::ResourceQuota quota("krait");
  quota.Resize(static_cast<size_t>(options.grpc_memory_mib) << 20);
  builder.SetResourceQuota(quota);
  builder.SetMaxReceiveMessageSize(options.max_request_kib << 10);
  builder.AddChannelArgument(GRPC_ARG_MAX_METADATA_SIZE, options.max_metadata_kib << 10);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, options.max_concurrent_streams);
}

void SetConnectionPolicy(const GrpcServerOptions& options, grpc::ServerBuilder& builder) {
  // With SO_REUSEPORT, gRPC's default, a second server on the port starts and takes half the calls.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, 30'000);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 10'000);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 5'000);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MAX_PING_STRIKES, 3);
  builder.AddChannelArgument(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, options.handshake_timeout_ms);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONNECTION_IDLE_MS, options.idle_timeout_ms);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONNECTION_AGE_MS, 30 * kMinute);
  // Longer than the longest stream that is allowed: an old connection ends, its streams do not.
  builder.AddChannelArgument(GRPC_ARG_MAX_CONNECTION_AGE_GRACE_MS, 35 * kMinute);
}

std::vector<std::string> Names(const std::vector<NamedService>& services) {
  std::vector<std::string> names;
  for (const NamedService& service : services) names.push_back(service.name);
  return names;
}

}  // namespace

absl::StatusOr<GrpcServerOptions> MakeGrpcServerOptions(const std::string& listen,
                                                        bool insecure_plaintext,
                                                        const ServerLimits& limits,
                                                        int default_max_request_kib) {
  GrpcServerOptions options;
  options.listen = listen;
  options.insecure_plaintext = insecure_plaintext;
  options.max_request_kib = default_max_request_kib;
  RETURN_IF_ERROR(SetLimit("grpc_memory_mib", limits.has_grpc_memory_mib(),
                           limits.grpc_memory_mib(), 16, 65'536, options.grpc_memory_mib));
  RETURN_IF_ERROR(SetLimit("max_request_kib", limits.has_max_request_kib(),
                           limits.max_request_kib(), 1, 65'536, options.max_request_kib));
  RETURN_IF_ERROR(SetLimit("max_metadata_kib", limits.has_max_metadata_kib(),
                           limits.max_metadata_kib(), 1, 64, options.max_metadata_kib));
  RETURN_IF_ERROR(SetLimit("max_concurrent_streams", limits.has_max_concurrent_streams(),
                           limits.max_concurrent_streams(), 1, 65'536,
                           options.max_concurrent_streams));
  RETURN_IF_ERROR(SetLimit("handshake_timeout_ms", limits.has_handshake_timeout_ms(),
                           limits.handshake_timeout_ms(), 10, 600'000,
                           options.handshake_timeout_ms));
  RETURN_IF_ERROR(SetLimit("idle_timeout_ms", limits.has_idle_timeout_ms(),
                           limits.idle_timeout_ms(), 10, 86'400'000, options.idle_timeout_ms));
  return options;
}

absl::StatusOr<std::unique_ptr<GrpcServer>> GrpcServer::Start(
    const GrpcServerOptions& options, const std::vector<NamedService>& services) {
  ASSIGN_OR_RETURN(const HostPort where, ParseHostPort(options.listen));
  if (!options.insecure_plaintext && !IsLoopbackHost(where.host)) {
    return absl::FailedPreconditionError(absl::StrCat("listen: plaintext gRPC off loopback (",
                                                      options.listen,
                                                      ") needs insecure_plaintext=true"));
  }
  RaiseFileDescriptorLimit();
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  auto server =
      std::unique_ptr<GrpcServer>(new GrpcServer(std::make_unique<HealthService>(Names(services))));
  grpc::ServerBuilder builder;
  SetLimits(options, builder);
  SetConnectionPolicy(options, builder);
  int port = 0;
  builder.AddListeningPort(options.listen, grpc::InsecureServerCredentials(), &port);
  builder.RegisterService(server->health_.get());
  for (const NamedService& service : services) builder.RegisterService(service.service);
  server->control_ = std::make_unique<ControlQueue>(builder.AddCompletionQueue());
  server->server_ = builder.BuildAndStart();
  if (server->server_ == nullptr || port == 0) {
    return absl::UnavailableError(absl::StrCat("cannot listen on ", options.listen,
                                               ": address in use, or not one of this machine's"));
  }
  server->ServeControl(services);
  server->port_ = port;
  server->address_ = FormatHostPort(where.host, port);
  const std::string local = where.host == "::" ? "::1" : "127.0.0.1";
  server->loopback_address_ = FormatHostPort(IsWildcardHost(where.host) ? local : where.host, port);
  return server;
}

GrpcServer::GrpcServer(std::unique_ptr<HealthService> health) : health_(std::move(health)) {}

GrpcServer::~GrpcServer() {
  Shutdown(absl::ZeroDuration());
  control_.reset();  // its events use the server, which must have been shut down
}

void GrpcServer::ServeControl(const std::vector<NamedService>& services) {
  health_->ServeOn(*control_);
  for (const NamedService& service : services) {
    if (service.serve_control) service.serve_control(*control_);
  }
}

void GrpcServer::SetServing(bool serving) { health_->SetServing(serving); }

void GrpcServer::Shutdown(absl::Duration grace) {
  if (server_ == nullptr) return;
  health_->SetServing(false);
  health_->Shutdown();
  server_->Shutdown(std::chrono::system_clock::now() + absl::ToChronoMilliseconds(grace));
}

}  // namespace krait
