#pragma once

namespace krait {

// Learns what a pass costs as a function of its size: seconds = base + slope * n, least squares
// over samples that fade. Until sizes have varied, the slope is `prior_share` of the cost of one
// unit: about 0 for a pass that is bound by reading weights, 1 for work that grows with n alone.
class LinearCost {
 public:
  explicit LinearCost(double prior_share) : prior_share_(prior_share) {}

  // A sample beyond three times what was expected counts as three times: the machine was busy with
  // something else.
  void Add(double n, double seconds);

  // At least 0; 0 before the first sample.
  double Seconds(double n) const;
  bool measured() const { return weight_ > 0; }

 private:
  double slope() const;

  const double prior_share_;
  double weight_ = 0;
  double mean_n_ = 0;
  double mean_seconds_ = 0;
  double variance_n_ = 0;  // weighted means, not sums
  double covariance_ = 0;
};

}  // namespace krait
