#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace krait::kernels {

// A piece [begin, end) of a row of logits.
struct RowSegment {
  size_t row = 0;
  int64_t begin = 0;
  int64_t end = 0;
};

// Cuts rows into pieces of at most this many logits, so that one row too keeps all threads busy.
// Row by row, in increasing order.
inline constexpr int64_t kSegmentSize = 16384;

template <typename Rows>
std::vector<RowSegment> CutRows(const Rows& rows) {
  std::vector<RowSegment> segments;
  for (size_t row = 0; row < rows.size(); ++row) {
    for (int64_t begin = 0; begin < rows[row].shard.n; begin += kSegmentSize) {
      segments.push_back({row, begin, std::min(begin + kSegmentSize, rows[row].shard.n)});
    }
  }
  return segments;
}

}  // namespace krait::kernels
