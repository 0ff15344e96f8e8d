#include "worker/layers/sharding.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace krait {
namespace {

constexpr ShardingDims kSmolLm2{.num_kv_groups = 3, .intermediate_size = 1536, .vocab_size = 49152};

TEST(ShardingTest, MlpBlocksAreTheSmallestDivisorOfAtLeastTwelve) {
  EXPECT_EQ(*MlpBlocks(1536, 3), 12);
  EXPECT_EQ(*MlpBlocks(14336, 8), 14);
  EXPECT_EQ(*MlpBlocks(11008, 8), 16);
  EXPECT_EQ(*MlpBlocks(8192, 8), 16);
  EXPECT_EQ(*MlpBlocks(1536, 16), 16);  // as many as KV groups
  EXPECT_EQ(*MlpBlocks(13, 3), 13);     // a prime
}

TEST(ShardingTest, AnMlpTooNarrowToCutIsNamed) {
  const absl::Status status = MlpBlocks(8, 3).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), ::testing::HasSubstr("intermediate_size"));
}

TEST(ShardingTest, RanksCoverEverythingOnceAtEveryDegree) {
  for (int num_ranks = 1; num_ranks <= 3; ++num_ranks) {
    Range groups, blocks, vocab;
    for (int r = 0; r < num_ranks; ++r) {
      const Sharding sharding = *MakeSharding(kSmolLm2, r, num_ranks);
      EXPECT_EQ(sharding.kv_groups.begin, groups.end);
      EXPECT_EQ(sharding.mlp_blocks.begin, blocks.end);
      EXPECT_EQ(sharding.vocab.begin, vocab.end);
      EXPECT_GT(sharding.kv_groups.size(), 0);
      groups = sharding.kv_groups;
      blocks = sharding.mlp_blocks;
      vocab = sharding.vocab;
    }
    EXPECT_EQ(groups.end, 3);
    EXPECT_EQ(blocks.end, 12);
    EXPECT_EQ(vocab.end, 49152);
  }
}

TEST(ShardingTest, TwoRanksShareThreeGroupsUnevenly) {
  EXPECT_EQ(MakeSharding(kSmolLm2, 0, 2)->kv_groups, (Range{0, 1}));
  EXPECT_EQ(MakeSharding(kSmolLm2, 1, 2)->kv_groups, (Range{1, 3}));
  EXPECT_EQ(MakeSharding(kSmolLm2, 1, 2)->intermediate(), (Range{768, 1536}));
}

TEST(ShardingTest, BlocksDoNotDependOnTheDegree) {
  for (int num_ranks = 1; num_ranks <= 3; ++num_ranks) {
    EXPECT_EQ(MakeSharding(kSmolLm2, 0, num_ranks)->num_mlp_blocks, 12);
    EXPECT_EQ(MakeSharding(kSmolLm2, 0, num_ranks)->mlp_block_size, 128);
  }
}

TEST(ShardingTest, MoreRanksThanGroupsNamesTheFieldAndTheLimit) {
  for (const int num_ranks : {0, 4}) {
    const absl::Status status = MakeSharding(kSmolLm2, 0, num_ranks).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()),
                ::testing::AllOf(::testing::HasSubstr("tensor_parallel_size"),
                                 ::testing::HasSubstr("between 1 and 3")));
  }
}

TEST(ShardingTest, VocabularyIsCutAtMultiplesOfSixteen) {
  for (const int64_t vocab_size : {16, 40, 49152, 49155}) {
    for (int num_ranks = 1; num_ranks <= 3; ++num_ranks) {
      int64_t next = 0;
      for (int r = 0; r < num_ranks; ++r) {
        const Range range = OwnedVocab(vocab_size, r, num_ranks);
        EXPECT_EQ(range.begin, next);
        if (vocab_size >= 16 * num_ranks) {
          EXPECT_EQ(range.begin % 16, 0);
        }
        next = range.end;
      }
      EXPECT_EQ(next, vocab_size);
    }
  }
}

}  // namespace
}  // namespace krait
