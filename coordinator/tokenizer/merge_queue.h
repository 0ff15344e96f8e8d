#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"

namespace krait {

// Candidates for merging: the lowest rank comes out first, of equal ranks the leftmost position.
// Text of one repeated character has few ranks and pushes positions in order, so each rank keeps an
// ascending run, which costs O(1) a candidate and stays in cache, and a heap for what comes out of
// order. O(log n) at worst. Not thread-safe.
class MergeQueue {
 public:
  struct Candidate {
    uint32_t rank;
    int32_t position;
  };

  void Clear();  // keeps the memory
  void Push(Candidate candidate);
  bool empty() const { return ranks_.empty(); }
  Candidate Pop();  // not when empty

  // Candidates pushed and popped since the queue was made, each counted with the depth of the heaps
  // that it went through.
  int64_t num_steps() const { return num_steps_; }

 private:
  struct Bucket {
    std::vector<int32_t> run;  // ascending; those before `next` are out
    size_t next = 0;
    std::vector<int32_t> strays;  // a heap, smallest on top

    bool empty() const { return next == run.size() && strays.empty(); }
    void Clear();
    // Both return the number of steps as well.
    int64_t Push(int32_t position);
    std::pair<int32_t, int64_t> Pop();
  };

  Bucket& BucketOf(uint32_t rank);

  std::vector<Bucket> buckets_;  // the first num_used_ are in use
  size_t num_used_ = 0;
  absl::flat_hash_map<uint32_t, size_t> bucket_of_rank_;
  int64_t num_steps_ = 0;
  std::vector<std::pair<uint32_t, size_t>> ranks_;  // heap of (rank, bucket) that are not empty
};

}  // namespace krait
