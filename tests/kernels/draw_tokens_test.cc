#include "kernels/ops/draw_tokens.h"

#include "common/gumbel.h"
#include "tests/kernels/draw_problem.h"

namespace krait::kernels {
namespace {

class DrawTokensTest : public ::testing::TestWithParam<BackendVariant> {
 protected:
  const std::unique_ptr<Backend> backend_ = MakeBackend(GetParam());
  const std::unique_ptr<Backend> plain_ = MakeBackend(PlainVariant());
};
INSTANTIATE_TEST_SUITE_P(Variants, DrawTokensTest, ::testing::ValuesIn(AllVariants()),
                         ::testing::PrintToStringParamName());

// Which of the row's logits the filters leave, from the definition.
std::vector<bool> PlainKept(Backend& backend, const float* row, int64_t n, float max,
                            const DrawChoice& choice) {
  std::vector<int64_t> places;
  for (int64_t i = 0; i < n; ++i) {
    if ((row[i] - max) / choice.temperature >= choice.min_z) places.push_back(i);
  }
  std::stable_sort(places.begin(), places.end(),
                   [&](int64_t a, int64_t b) { return row[a] > row[b]; });
  if (choice.top_k > 0 && choice.top_k < static_cast<int64_t>(places.size())) {
    places.resize(choice.top_k);
  }
  std::vector<float> sorted;
  for (const int64_t i : places) sorted.push_back(row[i]);
  std::vector<uint64_t> masses(places.size());
  std::vector<MassRow> mass_rows;
  for (float& logit : sorted) mass_rows.push_back({{&logit, 1}, max, choice.temperature});
  backend.ExpMass(mass_rows, absl::MakeSpan(masses));
  long double total = 0, sum = 0;
  for (const uint64_t mass : masses) total += mass;
  const long double nucleus =
      std::max(1.0L, std::floor(total * choice.top_p / static_cast<long double>(kWholeMass)));
  std::vector<bool> kept(n, false);
  for (size_t i = 0; i < places.size() && (choice.top_p == kWholeMass || sum < nucleus); ++i) {
    kept[places[i]] = true;
    sum += masses[i];
  }
  return kept;
}

// One score after the other.
TokenId PlainDraw(Backend& backend, const DrawProblem& problem, int64_t r) {
  const DrawChoice& choice = problem.choices[r];
  const float* row = problem.logits.data() + r * problem.n;
  if (choice.drawn == 0) return kNoToken;
  if (!std::all_of(row, row + problem.n, [](float x) { return std::isfinite(x); })) return kNoToken;
  const float max = *std::max_element(row, row + problem.n);
  const int64_t position = problem.positions[problem.rows[r]] + 1;
  const bool greedy = choice.temperature == 0;
  const std::vector<bool> kept =
      greedy ? std::vector<bool>(problem.n, true) : PlainKept(backend, row, problem.n, max, choice);
  TokenId best = kNoToken;
  float best_score = -std::numeric_limits<float>::infinity();
  for (int64_t i = 0; i < problem.n; ++i) {
    const TokenId id =
        problem.ids.empty() ? problem.first_id + static_cast<TokenId>(i) : problem.ids[i];
    if (!kept[i]) continue;
    float score = row[i];
    if (!greedy) {
      const float z = (row[i] - max) / choice.temperature;
      score = z + Gumbel({choice.seed, position, choice.choice}, id);
    }
    if (score > best_score) {
      best_score = score;
      best = id;
    }
  }
  return best;
}

TEST_P(DrawTokensTest, EveryRowDrawsByItsOwnChoice) {
  for (const bool ids : {false, true}) {
    for (const int64_t n : {1, 7, 300, 5000}) {
      DrawProblem problem = MakeDrawProblem(40, n, ids, static_cast<uint32_t>(n) + ids);
      std::vector<TokenId> tokens(40, 123456);
      backend_->DrawTokens(problem.Params(tokens.data()));
      for (int64_t r = 0; r < 40; ++r) {
        EXPECT_EQ(tokens[r], PlainDraw(*plain_, problem, r)) << "n=" << n << " row " << r;
      }
    }
  }
}

// With lists cut and without.
TEST_P(DrawTokensTest, ALogitAtMinZMayBeDrawnAndNoneBelow) {
  for (const int32_t top_k : {0, 3}) {
    for (const bool below : {false, true}) {
      DrawProblem problem{.num_rows = 64, .n = 300};
      problem.logits.assign(64 * 300, -100.0f);
      for (int r = 0; r < 64; ++r) {
        problem.logits[r * 300 + 3] = 0;
        problem.logits[r * 300 + 250] = below ? std::nextafter(-1.5f, -2.0f) : -1.5f;
        problem.rows.push_back(r);
        problem.positions.push_back(r);
        problem.choices.push_back({.seed = 5, .min_z = -1.5f, .top_k = top_k});
      }
      std::vector<TokenId> tokens(64);
      backend_->DrawTokens(problem.Params(tokens.data()));
      const auto drawn = std::count(tokens.begin(), tokens.end(), 250);
      EXPECT_EQ(drawn > 0, !below) << "top_k=" << top_k;
      EXPECT_EQ(std::count(tokens.begin(), tokens.end(), 3), 64 - drawn);
    }
  }
}

TEST_P(DrawTokensTest, NeighboursDoNotMatter) {
  DrawProblem all = MakeDrawProblem(20, 3000, false, 5);
  std::vector<TokenId> together(20);
  backend_->DrawTokens(all.Params(together.data()));
  for (int64_t r = 0; r < 20; ++r) {
    DrawProblem one = all;
    one.num_rows = 1;
    one.logits.assign(all.logits.begin() + r * 3000, all.logits.begin() + (r + 1) * 3000);
    one.rows = {all.rows[r]};
    one.choices = {all.choices[r]};
    TokenId alone = 123456;
    backend_->DrawTokens(one.Params(&alone));
    EXPECT_EQ(alone, together[r]) << r;
  }
}

}  // namespace
}  // namespace krait::kernels
