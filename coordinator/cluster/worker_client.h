#pragma once

#include <memory>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "krait/internal/v1/worker.pb.h"

namespace krait {

// Receives one stream of a worker, one event at a time, on threads of the client's choosing.
class WorkerStreamObserver {
 public:
  virtual ~WorkerStreamObserver() = default;
  // The next chunk comes only after WorkerStream::ReadNext: this is the back-pressure.
  virtual void OnChunk(internal::v1::TokenChunk chunk) = 0;
  // Last event, exactly once. UNAVAILABLE if the worker or the way to it is lost.
  virtual void OnEnd(const absl::Status& status) = 0;
};

// A running stream. Thread-safe.
class WorkerStream {
 public:
  virtual ~WorkerStream() = default;
  // Asks for the chunk after the one last delivered. Once a chunk; not before OnChunk.
  virtual void ReadNext() = 0;
  // The choice need not go on; chunks of it may still come. Best effort, legal at any time: without
  // it the worker only does too much.
  virtual void StopChoice(int choice) = 0;
  // Ends the generation on the worker and lets OnEnd come soon. Idempotent, legal at any time.
  virtual void Cancel() = 0;
};

// The coordinator's only way to a worker. Thread-safe.
class WorkerClient {
 public:
  virtual ~WorkerClient() = default;
  // Starts a generation; the first chunk is asked for already. Never blocks, and never calls
  // `observer` on the caller's thread. `timeout`: the call's deadline from now.
  virtual std::shared_ptr<WorkerStream> Generate(
      const internal::v1::GenerateRequest& request, absl::Duration timeout,
      std::shared_ptr<WorkerStreamObserver> observer) = 0;
  // Ends all streams, now and in future, as if the worker were lost. For leases that have run out:
  // a worker that hangs would keep its connections open.
  virtual void Close() = 0;
};

// Makes a client of the worker at "host:port".
class WorkerClientFactory {
 public:
  // Ends what its clients still run, and waits for that. Not on a thread that delivers events.
  virtual ~WorkerClientFactory() = default;
  virtual std::shared_ptr<WorkerClient> Create(const std::string& address) = 0;
};

// Over gRPC; one connection a client.
std::unique_ptr<WorkerClientFactory> MakeGrpcWorkerClientFactory();

}  // namespace krait
