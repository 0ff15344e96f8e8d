#pragma once

// Rows of logits to draw from, of every kind that DrawTokens knows.

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "tests/kernels/kernel_test_util.h"

namespace krait::kernels {

struct DrawProblem {
  int64_t num_rows = 0, n = 0;
  std::vector<float> logits;  // [num_rows, n]
  std::vector<TokenId> ids;   // empty: contiguous from first_id
  TokenId first_id = 0;
  std::vector<int32_t> rows, positions;
  std::vector<DrawChoice> choices;

  DrawTokensParams Params(TokenId* tokens) {
    return {.logits = Matrix(logits, num_rows, n),
            .first_id = first_id,
            .ids = ids.empty() ? nullptr : ids.data(),
            .rows = rows.data(),
            .positions = positions.data(),
            .choices = choices.data(),
            .tokens = tokens};
  }
};

inline DrawChoice AnyChoice(int r) {
  DrawChoice choice{.seed = 0x123456789abull * (r + 1), .choice = static_cast<uint32_t>(r % 3)};
  choice.temperature = r % 4 == 0 ? 0.0f : 0.15f * static_cast<float>(r % 11) + 0.01f;
  if (r % 5 == 1) choice.min_z = -2.5f;
  const int32_t top_k[] = {0, 0, 1, 5, 40, 3000, 0};
  choice.top_k = top_k[r % 7];
  const double top_p[] = {1, 0.9, 0.3, 1, 0.999, 0.00001};
  choice.top_p = static_cast<uint64_t>(top_p[r / 2 % 6] * static_cast<double>(kWholeMass));
  choice.drawn = r % 7 != 6;
  return choice;
}

// Greedy and seeded rows, some with ties or signed zeros, some left out, some not finite. `ids`: of
// a reduced vocabulary.
inline DrawProblem MakeDrawProblem(int64_t num_rows, int64_t n, bool ids, uint32_t seed) {
  DrawProblem problem{.num_rows = num_rows, .n = n, .logits = Gaussian(num_rows * n, seed, 4.0f)};
  std::mt19937 random(seed);
  problem.first_id = ids ? 0 : static_cast<TokenId>(random() % 1000);
  for (int64_t i = 0; ids && i < n; ++i) {
    problem.ids.push_back(static_cast<TokenId>(3 * i + random() % 3));
  }
  for (int r = 0; r < num_rows; ++r) {
    problem.choices.push_back(AnyChoice(r));
    float* row = problem.logits.data() + r * n;
    if (r % 3 == 1) std::transform(row, row + n, row, [](float x) { return std::round(x); });
    if (r % 8 == 5) std::fill(row, row + n, r % 16 == 5 ? -0.0f : 1.0f);
    if (r % 8 == 5) row[n / 2] = 0.0f;
    const float poisons[] = {NAN, std::numeric_limits<float>::infinity(),
                             -std::numeric_limits<float>::infinity()};
    if (r % 10 == 9) row[random() % n] = poisons[r / 10 % 3];
    // Rows of logits belong to tokens somewhere in the pass.
    problem.rows.push_back(2 * r + 1);
    problem.positions.push_back(-1000);
    problem.positions.push_back(static_cast<int32_t>(random() % 100000));
  }
  return problem;
}

}  // namespace krait::kernels
