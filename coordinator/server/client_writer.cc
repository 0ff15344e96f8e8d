#include "coordinator/server/client_writer.h"

#include <utility>

namespace krait {

void ClientWriter::Push(v1::GenerateResponse response) {
  // What no write is waiting for leaves at once.
  const size_t bytes = writing_ ? response.ByteSizeLong() : 0;
  pending_.Push(std::move(response), bytes);
}

const v1::GenerateResponse* ClientWriter::StartNext(absl::Duration now) {
  if (writing_) return nullptr;
  if (dropped_) pending_.Clear();
  if (pending_.empty()) return nullptr;
  in_flight_ = pending_.Pop();
  writing_ = true;
  write_started_ = now;
  return &in_flight_;
}

bool ClientWriter::full() const {
  return pending_.num_tokens() >= options_.stream_buffer_tokens ||
         pending_.num_bytes() >= static_cast<size_t>(options_.stream_buffer_bytes);
}

absl::Duration ClientWriter::stuck_at() const {
  return writing_ ? write_started_ + options_.slow_client_timeout : absl::InfiniteDuration();
}

}  // namespace krait
