#pragma once

#include <cstddef>
#include <deque>

#include "krait/v1/generation.pb.h"

namespace krait {

// What waits for a client to take it: of each choice at most one response, into which its next ones
// are merged. Not thread-safe.
class ResponseQueue {
 public:
  // `response` follows on those of its choice and counts for `bytes`. A choice's last response goes
  // to the end of the line, so that of all choices the one that ended last is written last.
  void Push(v1::GenerateResponse response, size_t bytes);
  // The response that waits longest. The queue must not be empty.
  v1::GenerateResponse Pop();
  void Clear();

  bool empty() const { return entries_.empty(); }
  int num_tokens() const { return num_tokens_; }
  size_t num_bytes() const { return num_bytes_; }

 private:
  struct Entry {
    v1::GenerateResponse response;
    size_t bytes = 0;
  };

  std::deque<Entry> entries_;
  int num_tokens_ = 0;
  size_t num_bytes_ = 0;
};

}  // namespace krait
