#include "worker/speculative/linear_cost.h"

#include <algorithm>

namespace krait {
namespace {

constexpr double kFade = 0.95;          // of every older sample's weight, each new one
constexpr double kOutlier = 3;          // times the expected cost
constexpr double kPriorVariance = .02;  // how much variation in n it takes to outweigh the prior

}  // namespace

void LinearCost::Add(double n, double seconds) {
  if (measured()) seconds = std::min(seconds, kOutlier * std::max(Seconds(n), mean_seconds_ / 4));
  weight_ = weight_ * kFade + 1;
  const double share = 1 / weight_;
  const double dn = n - mean_n_;
  const double ds = seconds - mean_seconds_;
  variance_n_ = (1 - share) * (variance_n_ + share * dn * dn);
  covariance_ = (1 - share) * (covariance_ + share * dn * ds);
  mean_n_ += share * dn;
  mean_seconds_ += share * ds;
}

double LinearCost::slope() const {
  // The line through the mean whose slope is prior_share of its value at n = 1.
  const double at_one = mean_seconds_ / (1 + prior_share_ * (mean_n_ - 1));
  const double prior = prior_share_ * std::max(0.0, at_one);
  const double fit = (covariance_ + kPriorVariance * prior) / (variance_n_ + kPriorVariance);
  return std::max(0.0, fit);
}

double LinearCost::Seconds(double n) const {
  if (!measured()) return 0;
  return std::max(0.0, mean_seconds_ + slope() * (n - mean_n_));
}

}  // namespace krait
