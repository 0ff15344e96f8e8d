#include "tests/support/chi_square.h"

#include <algorithm>
#include <cmath>

namespace krait::testing {
namespace {

constexpr double kFewExpected = 10;

// The regularized upper incomplete gamma function Q(a, x): the series of P below a + 1, Lentz's
// continued fraction above (Numerical Recipes, 6.2).
double UpperGamma(double a, double x) {
  const double scale = std::exp(-x + a * std::log(x) - std::lgamma(a));
  if (x < a + 1) {
    double term = 1 / a, sum = term;
    for (double n = a + 1; std::abs(term) > std::abs(sum) * 1e-15; ++n) sum += term *= x / n;
    return 1 - sum * scale;
  }
  constexpr double kTiny = 1e-300;
  double b = x + 1 - a, c = 1 / kTiny, d = 1 / b, h = d;
  for (int i = 1; i < 10'000; ++i) {
    const double an = -i * (i - a);
    b += 2;
    d = 1 / std::max(kTiny, an * d + b);
    c = std::max(kTiny, b + an / c);
    h *= c * d;
    if (std::abs(c * d - 1) < 1e-15) break;
  }
  return scale * h;
}

}  // namespace

double ChiSquareTail(double value, double degrees) {
  return value <= 0 ? 1 : UpperGamma(degrees / 2, value / 2);
}

double PoissonTail(double mean, double count) {
  if (count <= 0) return 1;
  return mean <= 0 ? 0 : 1 - UpperGamma(count, mean);
}

double ChanceOf(const std::vector<Cell>& cells, int groups) {
  double value = 0;
  int num_cells = 0;
  const auto add = [&](const Cell& cell) {
    value += (cell.seen - cell.expected) * (cell.seen - cell.expected) / cell.expected;
    ++num_cells;
  };
  Cell rest;
  for (const Cell& cell : cells) {
    if (cell.expected >= kFewExpected) {
      add(cell);
    } else {
      rest.seen += cell.seen;
      rest.expected += cell.expected;
    }
  }
  double chance = 1;
  if (rest.expected >= kFewExpected) {
    add(rest);
  } else {
    chance = PoissonTail(rest.expected, rest.seen);
  }
  if (num_cells > groups) chance = std::min(chance, ChiSquareTail(value, num_cells - groups));
  return std::min(1.0, 2 * chance);  // the better of two
}

}  // namespace krait::testing
