#pragma once

namespace krait::kernels {

// Bytes a second that `num_threads` threads together read from memory with wide loads, the best of
// several passes over a buffer far larger than the caches: the limit that decoding is measured
// against. Takes about half a second and 512 MiB; 0 if there is no memory.
double MeasureReadBandwidth(int num_threads);

}  // namespace krait::kernels
