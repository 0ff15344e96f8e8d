#include "worker/sampling/candidate_cut.h"

#include <cmath>
#include <limits>

#include "gtest/gtest.h"

namespace krait {
namespace {

// In falling order: 0, -1, .., ids 10, 11, ..
std::vector<Candidate> Falling(size_t count) {
  std::vector<Candidate> candidates;
  for (size_t i = 0; i < count; ++i) {
    candidates.push_back({-static_cast<float>(i), static_cast<TokenId>(10 + i)});
  }
  return candidates;
}

CutParams Off() { return {.min_z = -std::numeric_limits<float>::infinity()}; }

std::optional<size_t> Cut(const CutParams& params, const std::vector<Candidate>& top,
                          bool complete) {
  return CutCandidates(params, top, complete, [](absl::Span<const Candidate> candidates) {
    return std::vector<uint64_t>(candidates.size(), 1);
  });
}

TEST(CandidateCutTest, TopKKeepsExactlyAsManyAsAskedFor) {
  CutParams params = Off();
  for (size_t k = 1; k <= 5; ++k) {
    params.top_k = static_cast<int>(k);
    for (const bool complete : {false, true}) {
      // Lists of several ranks together hold more than were asked for.
      EXPECT_EQ(Cut(params, Falling(8), complete), k);
      EXPECT_EQ(Cut(params, Falling(k), complete), k);
    }
    EXPECT_EQ(Cut(params, Falling(k - 1), true), k - 1) << "there are no others";
    EXPECT_EQ(Cut(params, Falling(k - 1), false), std::nullopt);
  }
}

TEST(CandidateCutTest, TopPIsAShareOfWhatTopKKeeps) {
  CutParams params = Off();
  params.top_k = 4;
  params.top_p = 0.5f;  // of four equal masses, not of eight
  EXPECT_EQ(Cut(params, Falling(8), true), 2u);
}

TEST(CandidateCutTest, ALogitAtMinPsLimitStays) {
  CutParams params = {.max = 5, .temperature = 2};
  const std::vector<Candidate> top = {{5, 1}, {3, 2}, {1, 3}};
  params.min_z = -1;  // of the second
  EXPECT_EQ(Cut(params, top, true), 2u);
  params.min_z = std::nextafter(-1.0f, 0.0f);
  EXPECT_EQ(Cut(params, top, true), 1u);
  params.min_z = std::nextafter(-1.0f, -2.0f);
  EXPECT_EQ(Cut(params, top, true), 2u);
}

TEST(CandidateCutTest, MinPsLimitIsItsLogarithm) {
  EXPECT_EQ(MinZ(0.25f), static_cast<float>(std::log(0.25)));
  EXPECT_EQ(MinZ(1), 0);
  EXPECT_EQ(MinZ(0), -std::numeric_limits<float>::infinity());
}

}  // namespace
}  // namespace krait
