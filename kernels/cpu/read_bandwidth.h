#pragma once

#include <cstdint>

#include "kernels/cpu/thread_pool.h"
#include "kernels/cpu/weight_arena.h"

namespace krait::kernels {

// How fast `num_threads` threads together read memory of the kind that weights lie in
// (WeightArena), with wide loads: the limit that decoding is measured against. Its threads block
// between passes, so that passes can alternate with what is measured. One thread.
class ReadBandwidth {
 public:
  // Holds `num_bytes`, rounded up to MiB: many times the caches.
  ReadBandwidth(int num_threads, int64_t num_bytes);

  // Reads everything once: bytes a second; 0 if there was no memory.
  double Pass();

 private:
  ThreadPool pool_;
  WeightArena arena_;
  const int64_t num_pieces_;
  const std::byte* data_;
};

// The best of several passes over 512 MiB; takes about half a second. 0 if there is no memory.
double MeasureReadBandwidth(int num_threads);

}  // namespace krait::kernels
