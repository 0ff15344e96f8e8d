#include "coordinator/server/response_queue.h"

#include <algorithm>
#include <string>
#include <utility>

namespace krait {
namespace {

// `next` follows on `response`.
void Append(v1::GenerateResponse next, v1::GenerateResponse& response) {
  const int first_index = response.first_index();
  std::string text = std::move(*response.mutable_text());
  text += next.text();
  response.MergeFrom(next);
  response.set_first_index(first_index);
  response.set_text(std::move(text));
}

}  // namespace

void ResponseQueue::Push(v1::GenerateResponse response, size_t bytes) {
  num_tokens_ += response.token_ids_size();
  num_bytes_ += bytes;
  const auto entry = std::find_if(entries_.begin(), entries_.end(), [&](const Entry& other) {
    return other.response.index() == response.index();
  });
  if (entry == entries_.end()) {
    entries_.push_back({std::move(response), bytes});
    return;
  }
  Append(std::move(response), entry->response);
  entry->bytes += bytes;
  if (entry->response.finish_reason() != v1::FINISH_REASON_UNSPECIFIED) {
    std::rotate(entry, entry + 1, entries_.end());
  }
}

v1::GenerateResponse ResponseQueue::Pop() {
  Entry entry = std::move(entries_.front());
  entries_.pop_front();
  num_tokens_ -= entry.response.token_ids_size();
  num_bytes_ -= entry.bytes;
  return std::move(entry.response);
}

void ResponseQueue::Clear() {
  entries_.clear();
  num_tokens_ = 0;
  num_bytes_ = 0;
}

}  // namespace krait
