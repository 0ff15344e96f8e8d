#include "worker/runner/batch_packer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <vector>

namespace krait {
namespace {

using ::testing::ElementsAre;

template <typename T>
std::vector<T> List(const T* values, int64_t count) {
  return std::vector<T>(values, values + count);
}

TEST(BatchPackerTest, LaysRowsOutOneAfterTheOther) {
  const std::vector<TokenId> prompt = {11, 12, 13, 14, 15, 16};
  const std::vector<TokenId> verification = {21, 22, 23};
  const std::vector<PageId> prompt_pages = {7, 2};
  const std::vector<PageId> other_pages = {5, 0, 9};
  const std::unique_ptr<Backend> backend = CreateCpuBackend({});
  BatchPacker packer(4, backend.get());
  const ForwardContext context =
      *packer.Pack({{.token_ids = prompt, .first_position = 0, .page_table = prompt_pages},
                    {.token_ids = verification,
                     .first_position = 7,
                     .page_table = other_pages,
                     .num_logits = 3}});
  EXPECT_EQ(context.num_tokens, 9);
  EXPECT_EQ(context.num_sequences, 2);
  EXPECT_THAT(List(context.token_ids, 9), ElementsAre(11, 12, 13, 14, 15, 16, 21, 22, 23));
  EXPECT_THAT(List(context.positions, 9), ElementsAre(0, 1, 2, 3, 4, 5, 7, 8, 9));
  EXPECT_THAT(List(context.query_start, 3), ElementsAre(0, 6, 9));
  EXPECT_THAT(List(context.slot_mapping, 9), ElementsAre(28, 29, 30, 31, 8, 9, 3, 36, 37));
  ASSERT_EQ(context.page_table_stride, 4);  // a power of two
  EXPECT_THAT(List(context.page_table, 8), ElementsAre(7, 2, 0, 0, 5, 0, 9, 0));
  ASSERT_EQ(context.num_logits, 3);
  EXPECT_THAT(List(context.logits_rows, 3), ElementsAre(6, 7, 8));
}

TEST(BatchPackerTest, ForgetsTheLastBatch) {
  const std::vector<TokenId> tokens = {1, 2};
  const std::vector<PageId> pages = {3};
  const std::unique_ptr<Backend> backend = CreateCpuBackend({});
  BatchPacker packer(2, backend.get());
  ASSERT_TRUE(packer.Pack({{.token_ids = tokens, .page_table = pages, .num_logits = 2}}).ok());
  const ForwardContext context = *packer.Pack({{.token_ids = absl::MakeConstSpan(tokens).subspan(1),
                                                .first_position = 1,
                                                .page_table = pages,
                                                .num_logits = 0}});
  EXPECT_EQ(context.num_tokens, 1);
  EXPECT_EQ(context.num_logits, 0);
  EXPECT_EQ(context.slot_mapping[0], 7);
}

TEST(BatchPackerDeathTest, TokensBeyondTheirPagesAreABug) {
  const std::vector<TokenId> tokens = {1, 2, 3};
  const std::vector<PageId> pages = {3};
  const std::unique_ptr<Backend> backend = CreateCpuBackend({});
  BatchPacker packer(2, backend.get());
  EXPECT_DEATH((void)packer.Pack({{.token_ids = tokens, .page_table = pages}}), "Check failed");
}

}  // namespace
}  // namespace krait
