#pragma once

#include <vector>

#include "worker/speculative/linear_cost.h"

namespace krait {

// Learns what a pass costs by its rows. A line alone is not enough: rows come in tiles, so that on
// one CPU three rows cost 1.06 of one and four 1.23. Sizes that were seen lately have a mean of
// their own, which weighs against the line by how often; the others lie on the line.
class PassCost {
 public:
  void Add(int rows, double seconds);

  // `rows` may lie between two sizes. At least 0; 0 before the first sample.
  double Seconds(double rows) const;
  bool measured() const { return line_.measured(); }

 private:
  struct Size {
    double weight = 0;
    double mean = 0;
  };
  double SecondsOf(int rows) const;

  LinearCost line_{0.07};
  std::vector<Size> sizes_;  // by rows
};

}  // namespace krait
