#include "worker/speculative/pass_cost.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

namespace krait {
namespace {

constexpr int kMaxRows = 64;       // beyond, a row more or less makes no step in the cost
constexpr double kFade = 0.98;     // of every size's weight, each pass: what was seen long ago
                                   // is on the line again
constexpr double kLineWeight = 3;  // in passes
constexpr double kOutlier = 3;     // times the expected cost; as LinearCost

}  // namespace

void PassCost::Add(int rows, double seconds) {
  const double counted = measured() ? std::min(seconds, kOutlier * Seconds(rows)) : seconds;
  line_.Add(rows, seconds);
  if (rows > kMaxRows) return;
  if (sizes_.size() <= static_cast<size_t>(rows)) sizes_.resize(rows + 1);
  for (Size& size : sizes_) size.weight *= kFade;
  Size& size = sizes_[rows];
  size.weight += 1;
  size.mean += (counted - size.mean) / size.weight;
}

double PassCost::SecondsOf(int rows) const {
  const double line = line_.Seconds(rows);
  if (rows < 0 || static_cast<size_t>(rows) >= sizes_.size()) return line;
  const Size& size = sizes_[rows];
  return (size.weight * size.mean + kLineWeight * line) / (size.weight + kLineWeight);
}

double PassCost::Seconds(double rows) const {
  const double below = std::floor(rows);
  const double share = rows - below;
  const double seconds = SecondsOf(static_cast<int>(below));
  if (share == 0) return seconds;
  return (1 - share) * seconds + share * SecondsOf(static_cast<int>(below) + 1);
}

}  // namespace krait
