// FindRowMax, BiasLogits, Penalize, ExpMass, TopCandidates, GumbelArgmax.

#include <algorithm>
#include <cmath>
#include <limits>

#include "common/gumbel.h"
#include "kernels/cpu/cpu_ops.h"
#include "tests/kernels/kernel_test_util.h"

namespace krait::kernels {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

class SamplingOpsTest : public ::testing::TestWithParam<BackendVariant> {
 protected:
  const std::unique_ptr<Backend> backend_ = MakeBackend(GetParam());
};
INSTANTIATE_TEST_SUITE_P(Variants, SamplingOpsTest, ::testing::ValuesIn(AllVariants()),
                         ::testing::PrintToStringParamName());

LogitsShard ShardOf(std::vector<float>& logits, TokenId first_id = 0) {
  return {logits.data(), static_cast<int64_t>(logits.size()), first_id, nullptr};
}

float MaxOf(const std::vector<float>& logits) {
  return *std::max_element(logits.begin(), logits.end());
}

// Every noise made, nothing passed over.
GumbelBest PlainArgmax(const GumbelRow& row) {
  GumbelBest best{-kInfinity, -1};
  for (int64_t i = 0; i < row.shard.n; ++i) {
    const TokenId id = row.shard.ids ? row.shard.ids[i] : row.shard.first_id + i;
    const float z = (row.shard.logits[i] - row.max) / row.temperature;
    if (z < row.min_z) continue;
    const float score = z + Gumbel({row.seed, row.position, row.choice}, id);
    if (score > best.score) best = {score, id};
  }
  return best;
}

TEST_P(SamplingOpsTest, FindRowMaxFindsTheMaximumAndWhatIsNotFinite) {
  for (int64_t n : {1, 7, 8, 100, 40000}) {
    for (float poison : {0.0f, NAN, kInfinity, -kInfinity}) {
      std::vector<float> logits = Gaussian(n, 1), clean = Gaussian(n, 2);
      const float expected = poison == kInfinity ? kInfinity : MaxOf(logits);
      const bool finite = poison == 0.0f;
      if (!finite) logits[n * 2 / 3] = poison;
      RowMax out[2];
      backend_->FindRowMax({ShardOf(logits), ShardOf(clean)}, absl::MakeSpan(out));
      EXPECT_EQ(out[0].finite, finite) << n << " " << poison;
      if (finite || poison == kInfinity) {
        EXPECT_EQ(out[0].max, expected);
      }
      EXPECT_EQ(out[1].max, MaxOf(clean));
      EXPECT_TRUE(out[1].finite);
    }
  }
}

TEST_P(SamplingOpsTest, BiasLogitsChangesTheNamedTokensOfTheShardOnly) {
  std::vector<float> logits = {2.0f, -2.0f, 1.0f, 0.5f};  // ids 100..103
  const BiasEntry entries[] = {{99, 4}, {100, -1.5f}, {102, -kInfinity}, {104, 1}};
  backend_->BiasLogits({BiasRow{ShardOf(logits, 100), entries}});
  EXPECT_EQ(logits, (std::vector<float>{0.5f, -2.0f, -kInfinity, 0.5f}));
  const TokenId ids[] = {7, 9, 50};
  std::vector<float> scattered = {1.0f, 1.0f, 1.0f};
  const BiasEntry two[] = {{8, 1}, {9, 100}};
  backend_->BiasLogits({BiasRow{{scattered.data(), 3, 0, ids}, two}});
  EXPECT_EQ(scattered, (std::vector<float>{1.0f, 101.0f, 1.0f}));
}

// An impossible token's whole neighbourhood of lanes, and a whole shard of them.
TEST_P(SamplingOpsTest, AnImpossibleTokenHasNoMassAndIsNeverDrawn) {
  for (int64_t possible : {0, 5, 31, 32, 63}) {
    std::vector<float> logits(64, -kInfinity);
    logits[possible] = -3;
    uint64_t mass = 0;
    backend_->ExpMass({MassRow{ShardOf(logits), -3, 0.5f}}, {&mass, 1});
    EXPECT_EQ(mass, uint64_t{1} << 40);
    for (float temperature : {0.0f, 0.7f}) {
      GumbelRow row{.shard = ShardOf(logits), .max = -3, .temperature = temperature};
      row.min_z = -kInfinity;
      GumbelBest best;
      backend_->GumbelArgmax({&row, 1}, {&best, 1});
      EXPECT_EQ(best.id, possible);
      std::vector<float> none(40, -kInfinity);
      row.shard = ShardOf(none);
      backend_->GumbelArgmax({&row, 1}, {&best, 1});
      EXPECT_EQ(best.id, -1);
    }
    std::vector<Candidate> top;
    backend_->TopCandidates({TopRow{ShardOf(logits), 3}}, {&top, 1});
    EXPECT_EQ(top[0].id, possible);
  }
}

TEST_P(SamplingOpsTest, PenalizeChangesOccurringTokensOfTheShardOnly) {
  std::vector<float> logits = {2.0f, -2.0f, 1.0f, 0.5f};  // ids 100..103
  const TokenCount counts[] = {{99, 4}, {100, 0}, {101, 2}, {102, 1}, {104, 1}};
  backend_->Penalize({PenaltyRow{ShardOf(logits, 100), counts, 2.0f, 0.25f, 0.5f}});
  EXPECT_EQ(logits,
            (std::vector<float>{1.0f, -2.0f * 2 - 2 * 0.5f - 0.25f, 0.5f - 0.5f - 0.25f, 0.5f}));
  const TokenId ids[] = {7, 9, 50};
  std::vector<float> scattered = {1.0f, 1.0f, 1.0f};
  const TokenCount two[] = {{8, 1}, {9, 1}};
  backend_->Penalize({PenaltyRow{{scattered.data(), 3, 0, ids}, two, 1.0f, 0.0f, 0.5f}});
  EXPECT_EQ(scattered, (std::vector<float>{1.0f, 0.5f, 1.0f}));
}

TEST_P(SamplingOpsTest, ExpMassIsTheRoundedSumAndAddsUpOverShards) {
  std::vector<float> logits = Gaussian(40001, 5, 6.0f);
  const float max = MaxOf(logits), temperature = 0.7f;
  uint64_t expected = 0;
  double exact = 0;
  for (float logit : logits) {
    const float z = (logit - max) / temperature;
    expected += static_cast<uint64_t>(double{fast_math::Exp(z)} * 0x1p40 + 0.5);
    exact += std::exp((double{logit} - max) / temperature);
  }
  uint64_t mass = 0;
  backend_->ExpMass({MassRow{ShardOf(logits), max, temperature}}, {&mass, 1});
  EXPECT_EQ(mass, expected);
  EXPECT_NEAR(static_cast<double>(mass) * 0x1p-40, exact, exact * 1e-6);

  uint64_t parts[2];
  const LogitsShard left{logits.data(), 12345, 0, nullptr};
  const LogitsShard right{logits.data() + 12345, 40001 - 12345, 12345, nullptr};
  backend_->ExpMass({MassRow{left, max, temperature}, MassRow{right, max, temperature}},
                    absl::MakeSpan(parts));
  EXPECT_EQ(parts[0] + parts[1], expected);
}

TEST_P(SamplingOpsTest, TopCandidatesAreTheLargestInFallingOrderTiesToTheLowerId) {
  for (int64_t n : {1, 30, 5000}) {
    std::vector<float> logits = Gaussian(n, 3);
    for (float& logit : logits) logit = std::round(logit * 20);  // many ties
    std::vector<TokenId> order(n);
    for (int64_t i = 0; i < n; ++i) order[i] = static_cast<TokenId>(i);
    std::stable_sort(order.begin(), order.end(),
                     [&](TokenId a, TokenId b) { return logits[a] > logits[b]; });
    for (int k : {0, 1, 5, 50, 2000, 6000}) {
      std::vector<Candidate> top;
      backend_->TopCandidates({TopRow{ShardOf(logits, 700), k}}, {&top, 1});
      ASSERT_EQ(static_cast<int64_t>(top.size()), std::min<int64_t>(k, n));
      for (size_t i = 0; i < top.size(); ++i) {
        ASSERT_EQ(top[i].id, order[i] + 700) << "n " << n << " k " << k << " place " << i;
        ASSERT_EQ(top[i].logit, logits[order[i]]);
      }
    }
  }
}

TEST_P(SamplingOpsTest, GumbelArgmaxEqualsTheLoopThatMakesAllTheNoise) {
  int64_t position = 0;
  for (int64_t n : {1, 5, 32, 33, 1000}) {
    for (TokenId first_id : {0, 1, 4, 30, 49151}) {
      for (float deviation : {0.0f, 1.0f, 8.0f}) {
        std::vector<float> logits = Gaussian(n, static_cast<uint32_t>(n), deviation);
        GumbelRow row{ShardOf(logits, first_id), MaxOf(logits), 0.8f, -kInfinity, 99, ++position};
        for (float min_z : {-kInfinity, -2.0f}) {
          row.min_z = min_z;
          const GumbelBest expected = PlainArgmax(row);
          GumbelBest best;
          backend_->GumbelArgmax({row}, {&best, 1});
          ASSERT_EQ(best.id, expected.id) << n << " from " << first_id;
          ASSERT_EQ(best.score, expected.score);
        }
      }
    }
  }
}

TEST_P(SamplingOpsTest, GumbelArgmaxOfAReducedVocabularyUsesTheTargetsIds) {
  std::vector<TokenId> ids;
  for (TokenId id = 3; ids.size() < 2000; id += 1 + id % 7) ids.push_back(id);
  std::vector<float> logits = Gaussian(2000, 12, 2.0f);
  for (int64_t position = 0; position < 20; ++position) {
    const GumbelRow row{
        {logits.data(), 2000, 0, ids.data()}, MaxOf(logits), 1.0f, -kInfinity, 5, position, 1};
    GumbelBest best;
    backend_->GumbelArgmax({row}, {&best, 1});
    ASSERT_EQ(best.id, PlainArgmax(row).id);
  }
}

TEST_P(SamplingOpsTest, ShardsAndNeighboursDoNotChangeTheDraw) {
  std::vector<float> logits = Gaussian(40000, 21, 0.5f), other = Gaussian(40000, 22);
  const GumbelRow whole{ShardOf(logits), MaxOf(logits), 1.0f, -kInfinity, 77, 31};
  GumbelBest alone, parts[4];
  backend_->GumbelArgmax({whole}, {&alone, 1});
  std::vector<GumbelRow> rows(4, whole);
  rows[3].shard = ShardOf(other);
  rows[3].max = MaxOf(other);
  const int64_t cuts[] = {0, 13333, 26667, 40000};
  for (int i = 0; i < 3; ++i) {
    rows[i].shard = {logits.data() + cuts[i], cuts[i + 1] - cuts[i], static_cast<TokenId>(cuts[i]),
                     nullptr};
  }
  backend_->GumbelArgmax(rows, absl::MakeSpan(parts));
  GumbelBest best = parts[0];
  for (int i : {1, 2}) {
    if (parts[i].score > best.score) best = parts[i];
  }
  EXPECT_EQ(best.id, alone.id);
  EXPECT_EQ(best.score, alone.score);
}

TEST_P(SamplingOpsTest, GreedyTakesTheLowestIdOfTheLargest) {
  for (int64_t n : {1, 9, 20000}) {
    std::vector<float> logits = Gaussian(n, 4);
    for (float& logit : logits) logit = std::min(logit, 0.5f);  // ties at the top
    GumbelRow row{ShardOf(logits, 10), MaxOf(logits), 0.0f, 0.0f, 1, 1};
    GumbelBest best;
    backend_->GumbelArgmax({row}, {&best, 1});
    const auto largest = std::max_element(logits.begin(), logits.end());
    EXPECT_EQ(best.id, 10 + (largest - logits.begin()));
    EXPECT_EQ(best.score, *largest);
  }
}

TEST_P(SamplingOpsTest, AShardWithoutACandidateAnswersSo) {
  std::vector<float> logits(100, -5.0f);
  GumbelBest best{1.0f, 3};
  backend_->GumbelArgmax({GumbelRow{ShardOf(logits), 0.0f, 1.0f, -1.0f, 1, 1}}, {&best, 1});
  EXPECT_EQ(best.id, -1);
}

// A vocabulary's size of words per position, 32 positions: 2^20 counters and more.
TEST_P(SamplingOpsTest, NoiseOfVectorsHasTheBitsOfTheScalarOne) {
  const Target target = TargetFromName(GetParam().target);
  constexpr int kIds = 131072;
  for (int64_t position = 0; position < 32; ++position) {
    const GumbelKey key{0xfeedfacecafebeefu, position * 1001, static_cast<uint32_t>(position % 3)};
    std::vector<float> noise(kIds);
    FillGumbel(target, key, 0, absl::MakeSpan(noise));
    for (TokenId id = 0; id < kIds; ++id) {
      ASSERT_EQ(std::bit_cast<uint32_t>(noise[id]), std::bit_cast<uint32_t>(Gumbel(key, id)))
          << "position " << position << " id " << id;
    }
    if (target == Target::kScalar && position == 1) break;  // the twin is the scalar form itself
  }
}

// With noise that rounds to infinity at one word in 2^24 some of the 128,255 would win in one of a
// few hundred positions. The likely token comes last, so that all noise before it is looked at.
TEST(GumbelArgmaxTest, ALikelyTokenAmongManyUnlikelyOnesIsAlwaysDrawn) {
  constexpr int kVocabulary = 128256, kPositions = 10000;
  const auto backend = MakeBackend({Name(SupportedTargets().back()), 1});
  std::vector<float> logits(kVocabulary, -30.0f);
  logits.back() = 0.0f;
  int drawn = 0;
  for (int64_t position = 0; position < kPositions; ++position) {
    GumbelBest best;
    backend->GumbelArgmax({GumbelRow{ShardOf(logits), 0.0f, 1.0f, -kInfinity, 2026, position}},
                          {&best, 1});
    drawn += best.id == kVocabulary - 1;
  }
  EXPECT_EQ(drawn, kPositions);
}

}  // namespace
}  // namespace krait::kernels
