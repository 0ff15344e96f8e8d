#pragma once

#include "absl/time/time.h"
#include "coordinator/coordinator_config.h"
#include "coordinator/server/response_queue.h"
#include "krait/v1/generation.pb.h"

namespace krait {

// The client's side of a stream: one response in gRPC's hands, and what waits behind it. Knows no
// gRPC: whoever owns it starts the writes. Not thread-safe: its session's lock protects it.
class ClientWriter {
 public:
  explicit ClientWriter(const CoordinatorOptions& options) : options_(options) {}

  void Push(v1::GenerateResponse response);
  // The response whose write is to start now; stays as it is until OnWriteDone. Null if one is
  // under way or there is none.
  const v1::GenerateResponse* StartNext(absl::Duration now);
  void OnWriteDone() { writing_ = false; }
  // The client has gone: nothing more is written.
  void Drop() { dropped_ = true; }

  bool writing() const { return writing_; }
  // So much waits that its worker should not be read from.
  bool full() const;
  // When the write under way has taken too long; infinite without one.
  absl::Duration stuck_at() const;
  // What was written last.
  const v1::GenerateResponse& last() const { return in_flight_; }

 private:
  const CoordinatorOptions& options_;
  ResponseQueue pending_;
  v1::GenerateResponse in_flight_;
  bool writing_ = false;
  bool dropped_ = false;
  absl::Duration write_started_;
};

}  // namespace krait
