#pragma once

// How likely counts are, if a law is right: Pearson's chi-square, with cells of few expected counts
// merged.

#include <vector>

namespace krait::testing {

// One cell of a table: how many were seen, and how many the law expects.
struct Cell {
  double seen = 0;
  double expected = 0;
};

// P(a chi-square variable of so many degrees of freedom exceeds `value`).
double ChiSquareTail(double value, double degrees);

// P(a Poisson variable of this mean is at least `count`).
double PoissonTail(double mean, double count);

// The chance of counts so far from what is expected or farther, if the cells' law is right and
// `groups` of their sums are given. Cells that expect fewer than ten are one; if that one expects
// as few too, only its excess counts, which need not be small to be impossible.
double ChanceOf(const std::vector<Cell>& cells, int groups = 1);

}  // namespace krait::testing
