// The equalities a runner owes: what a row computes depends on its own tokens alone.

#include "worker/runner/model_runner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <string>

#include "tests/support/random_tokens.h"
#include "tests/support/runner_bench.h"
#include "tests/support/tiny_checkpoint.h"

namespace krait::testing {
namespace {

constexpr int kLength = 140;  // more than one attention split

class ModelRunnerTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new std::string(::testing::TempDir() + "/model_runner_test");
    ASSERT_TRUE(WriteTinyFolder(MakeTinyModel({.num_layers = 3, .seed = 21}), *folder_).ok());
  }

  RunnerBench Bench(int num_ranks = 1) { return RunnerBench(*folder_, num_ranks); }

  // Logits after every token in one pass: what every other way must reproduce.
  static Logits OneShot(RunnerBench& bench, TestSequence sequence) {
    const int count = static_cast<int>(sequence.tokens.size());
    return bench.Forward({sequence.Next(count, count)});
  }

  static TestSequence Sequence(uint64_t seed, PageId first_page, int length = kLength) {
    return {.tokens = RandomTokens(length, 512, seed), .pages = PageRange(first_page, 36)};
  }

  static std::string* folder_;
};
std::string* ModelRunnerTest::folder_ = nullptr;

void Append(const Logits& more, Logits& logits) {
  logits.insert(logits.end(), more.begin(), more.end());
}

TEST_F(ModelRunnerTest, ChunkedPrefillGivesTheBitsOfOneShot) {
  for (const int num_ranks : {1, 2}) {
    RunnerBench bench = Bench(num_ranks);
    const Logits expected = OneShot(bench, Sequence(1, 0));
    std::mt19937 words(2);
    for (int trial = 0; trial < 6; ++trial) {
      TestSequence sequence = Sequence(1, 40);
      Logits logits;
      while (sequence.num_computed < kLength) {
        const int left = kLength - sequence.num_computed;
        const int count = std::min<int>(left, 1 + words() % 50);
        Append(bench.Forward({sequence.Next(count, count)}), logits);
      }
      EXPECT_TRUE(SameBits(logits, expected)) << "trial " << trial << " ranks " << num_ranks;
    }
  }
}

TEST_F(ModelRunnerTest, PlainStepsGiveTheBitsOfOneShot) {
  RunnerBench bench = Bench();
  const Logits expected = OneShot(bench, Sequence(3, 0));
  TestSequence sequence = Sequence(3, 40);
  Logits logits;
  while (sequence.num_computed < kLength) Append(bench.Forward({sequence.Next(1, 1)}), logits);
  EXPECT_TRUE(SameBits(logits, expected));
}

TEST_F(ModelRunnerTest, NeighboursDoNotChangeARow) {
  RunnerBench bench = Bench();
  std::vector<Logits> alone;
  for (int s = 0; s < 3; ++s) alone.push_back(OneShot(bench, Sequence(10 + s, 0)));
  // Decode rows, verifications and prefill chunks share passes, in random sizes and order.
  std::vector<TestSequence> sequences;
  for (int s = 0; s < 3; ++s) sequences.push_back(Sequence(10 + s, 36 * s));
  std::vector<Logits> mixed(3);
  std::mt19937 words(4);
  while (true) {
    std::vector<BatchRow> rows;
    std::vector<int> owners;
    for (int s = 0; s < 3; ++s) {
      const int left = kLength - sequences[s].num_computed;
      const int sizes[] = {0, 1, 5, 40};
      const int count = std::min<int>(left, sizes[words() % 4]);
      if (count == 0) continue;
      rows.push_back(sequences[s].Next(count, count));
      owners.insert(owners.end(), count, s);
    }
    if (rows.empty()) {
      if (mixed[0].size() + mixed[1].size() + mixed[2].size() == 3 * kLength) break;
      continue;
    }
    const Logits logits = bench.Forward(rows);
    for (size_t i = 0; i < logits.size(); ++i) mixed[owners[i]].push_back(logits[i]);
  }
  for (int s = 0; s < 3; ++s) EXPECT_TRUE(SameBits(mixed[s], alone[s])) << s;
}

TEST_F(ModelRunnerTest, AVerificationsRowsAreThePlainSteps) {
  RunnerBench bench = Bench();
  for (int k = 0; k <= 8; ++k) {
    TestSequence plain = Sequence(30 + k, 0, 60);
    TestSequence verified = Sequence(30 + k, 40, 60);
    bench.Forward({plain.Next(40, 0)});
    bench.Forward({verified.Next(40, 0)});
    Logits steps;
    for (int j = 0; j <= k; ++j) Append(bench.Forward({plain.Next(1, 1)}), steps);
    EXPECT_TRUE(SameBits(bench.Forward({verified.Next(k + 1, k + 1)}), steps)) << k;
  }
}

// Rejected drafts leave nothing behind: going on after j of k is going on after j.
TEST_F(ModelRunnerTest, CommittingJOfKIsHavingRunOnlyJ) {
  RunnerBench bench = Bench();
  constexpr int kK = 6;
  const Logits expected = OneShot(bench, Sequence(50, 0, 60));
  for (int j = 0; j <= kK; ++j) {
    TestSequence sequence = Sequence(50, 40, 60);
    bench.Forward({sequence.Next(30, 0)});
    TestSequence wrong = sequence;  // same pages, drafts that differ after j
    for (int i = 30 + j; i < 60; ++i) wrong.tokens[i] = (sequence.tokens[i] + 1) % 512;
    bench.Forward({wrong.Next(kK, kK)});
    sequence.num_computed += j;
    const int left = 60 - sequence.num_computed;
    EXPECT_TRUE(SameBits(bench.Forward({sequence.Next(left, left)}),
                         Logits(expected.end() - left, expected.end())))
        << j;
  }
}

TEST_F(ModelRunnerTest, PagesMayLieInAnyOrder) {
  RunnerBench bench = Bench();
  const Logits expected = OneShot(bench, Sequence(60, 0));
  const Logits expected_other = OneShot(bench, Sequence(61, 0));
  std::vector<PageId> pages = PageRange(0, 128);
  std::shuffle(pages.begin(), pages.end(), std::mt19937(5));
  TestSequence a = Sequence(60, 0), b = Sequence(61, 0);
  a.pages.assign(pages.begin(), pages.begin() + 40);  // interleaved with b's
  b.pages.assign(pages.begin() + 40, pages.begin() + 80);
  Logits logits, other;
  for (int chunk = 0; chunk < kLength; chunk += 20) {
    const Logits both = bench.Forward({a.Next(20, 20), b.Next(20, 20)});
    Append(Logits(both.begin(), both.begin() + 20), logits);
    Append(Logits(both.begin() + 20, both.end()), other);
  }
  EXPECT_TRUE(SameBits(logits, expected));
  EXPECT_TRUE(SameBits(other, expected_other));
}

TEST_F(ModelRunnerTest, PoisonedPagesDoNotShowInTheirNextOwner) {
  RunnerBench bench = Bench();
  const Logits expected = OneShot(bench, Sequence(70, 0));
  bench.runner(0).PoisonPages(PageRange(0, 128));
  TestSequence sequence = Sequence(70, 0);
  Logits logits;
  for (const int count : {1, 9, 3, 127}) {
    Append(bench.Forward({sequence.Next(count, count)}), logits);
  }
  EXPECT_TRUE(SameBits(logits, expected));
}

// The test above could pass because poison does nothing.
TEST_F(ModelRunnerTest, PoisonShowsInAPageThatIsStillRead) {
  RunnerBench bench = Bench();
  TestSequence sequence = Sequence(80, 0);
  bench.Forward({sequence.Next(20, 0)});
  bench.runner(0).PoisonPages({2});  // positions 8..11
  const Logits logits = bench.Forward({sequence.Next(1, 1)});
  EXPECT_TRUE(std::isnan(logits[0][0]));
}

TEST_F(ModelRunnerTest, PositionsEndWithTheContextOrThePages) {
  EXPECT_EQ(Bench().runner(0).max_positions(), 4 * 128);
  ModelRunnerOptions options = TinyRunnerOptions();
  options.num_pages = 1000;
  EXPECT_EQ(RunnerBench(*folder_, 1, options).runner(0).max_positions(), 1024);
}

TEST_F(ModelRunnerTest, RanksShareTheCacheByKvHeads) {
  RunnerBench one = Bench(1), two = Bench(2);
  EXPECT_EQ(one.runner(0).kv_bytes_per_token(), 3 * 2 * 3 * 8 * 4);
  EXPECT_EQ(two.runner(0).kv_bytes_per_token() + two.runner(1).kv_bytes_per_token(),
            one.runner(0).kv_bytes_per_token());
}

}  // namespace
}  // namespace krait::testing
