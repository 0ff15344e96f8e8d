#pragma once

#include <cstdint>

namespace krait {

// A half-open range of rows, columns, groups or blocks.
struct Range {
  int64_t begin = 0;
  int64_t end = 0;

  int64_t size() const { return end - begin; }
  Range operator*(int64_t factor) const { return {begin * factor, end * factor}; }
  Range operator+(int64_t offset) const { return {begin + offset, end + offset}; }
  bool operator==(const Range&) const = default;
};

// What of `n` units part `part` of `num_parts` owns: [floor(n p / P), floor(n (p + 1) / P)). One
// rule for ranks of a model, ranks of a process and threads of a rank.
inline Range OwnedUnits(int64_t n, int part, int num_parts) {
  return {n * part / num_parts, n * (part + 1) / num_parts};
}

}  // namespace krait
