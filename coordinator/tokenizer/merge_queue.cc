#include "coordinator/tokenizer/merge_queue.h"

#include <algorithm>
#include <bit>
#include <functional>

namespace krait {
namespace {

int64_t HeapDepth(size_t size) { return static_cast<int64_t>(std::bit_width(size)); }

}  // namespace

void MergeQueue::Bucket::Clear() {
  run.clear();
  strays.clear();
  next = 0;
}

int64_t MergeQueue::Bucket::Push(int32_t position) {
  if (run.empty() || position >= run.back()) {
    run.push_back(position);
    return 1;
  }
  strays.push_back(position);
  std::push_heap(strays.begin(), strays.end(), std::greater<>());
  return 1 + HeapDepth(strays.size());
}

std::pair<int32_t, int64_t> MergeQueue::Bucket::Pop() {
  if (strays.empty() || (next < run.size() && run[next] <= strays.front())) {
    return {run[next++], 1};
  }
  const int64_t num_steps = 1 + HeapDepth(strays.size());
  std::pop_heap(strays.begin(), strays.end(), std::greater<>());
  const int32_t position = strays.back();
  strays.pop_back();
  return {position, num_steps};
}

void MergeQueue::Clear() {
  num_used_ = 0;
  bucket_of_rank_.clear();
  ranks_.clear();
}

MergeQueue::Bucket& MergeQueue::BucketOf(uint32_t rank) {
  const auto [it, is_new] = bucket_of_rank_.try_emplace(rank, num_used_);
  if (is_new) {
    if (num_used_ == buckets_.size()) buckets_.emplace_back();
    buckets_[num_used_++].Clear();
  }
  Bucket& bucket = buckets_[it->second];
  if (bucket.empty()) {
    ranks_.emplace_back(rank, it->second);
    num_steps_ += HeapDepth(ranks_.size());
    std::push_heap(ranks_.begin(), ranks_.end(), std::greater<>());
  }
  return bucket;
}

void MergeQueue::Push(Candidate candidate) {
  num_steps_ += BucketOf(candidate.rank).Push(candidate.position);
}

MergeQueue::Candidate MergeQueue::Pop() {
  const auto [rank, index] = ranks_.front();
  Bucket& bucket = buckets_[index];
  const auto [position, num_steps] = bucket.Pop();
  num_steps_ += num_steps;
  if (bucket.empty()) {
    bucket.Clear();
    num_steps_ += HeapDepth(ranks_.size());
    std::pop_heap(ranks_.begin(), ranks_.end(), std::greater<>());
    ranks_.pop_back();
  }
  return {rank, position};
}

}  // namespace krait
