#include "coordinator/server/response_queue.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace krait {
namespace {

using testing::ElementsAre;

v1::GenerateResponse Response(int index, int first_index, const std::string& text,
                              bool last = false) {
  v1::GenerateResponse response;
  response.set_index(index);
  response.set_first_index(first_index);
  response.set_text(text);
  for (char c : text) response.add_token_ids(c);
  if (last) response.set_finish_reason(v1::FINISH_REASON_LENGTH);
  return response;
}

TEST(ResponseQueueTest, MergesWhatFollowsOnWithinAChoice) {
  ResponseQueue queue;
  queue.Push(Response(0, 4, "ab"), 10);
  queue.Push(Response(1, 0, "x"), 10);
  queue.Push(Response(0, 6, "c"), 10);
  EXPECT_EQ(queue.num_tokens(), 4);
  EXPECT_EQ(queue.num_bytes(), 30u);
  const v1::GenerateResponse first = queue.Pop();
  EXPECT_EQ(first.index(), 0);
  EXPECT_EQ(first.first_index(), 4);
  EXPECT_EQ(first.text(), "abc");
  EXPECT_THAT(first.token_ids(), ElementsAre('a', 'b', 'c'));
  EXPECT_EQ(queue.num_tokens(), 1);
  EXPECT_EQ(queue.Pop().text(), "x");
  EXPECT_TRUE(queue.empty());
  EXPECT_EQ(queue.num_bytes(), 0u);
}

TEST(ResponseQueueTest, NoChoiceOvertakesForEver) {
  ResponseQueue queue;
  for (int index = 0; index < 4; ++index) queue.Push(Response(index, 0, "a"), 10);
  std::vector<int> order;
  for (int step = 1; step <= 8; ++step) {
    order.push_back(queue.Pop().index());
    for (int index = 0; index < 4; ++index) queue.Push(Response(index, step, "a"), 10);
  }
  EXPECT_THAT(order, ElementsAre(0, 1, 2, 3, 0, 1, 2, 3));
}

TEST(ResponseQueueTest, TheLastToEndIsWrittenLast) {
  ResponseQueue queue;
  queue.Push(Response(0, 0, "a"), 10);
  queue.Push(Response(1, 0, "b", /*last=*/true), 10);
  v1::GenerateResponse last = Response(0, 1, "c", /*last=*/true);
  last.mutable_total_usage()->set_completion_tokens(3);
  queue.Push(last, 10);
  EXPECT_EQ(queue.Pop().index(), 1);
  const v1::GenerateResponse end = queue.Pop();
  EXPECT_EQ(end.text(), "ac");
  EXPECT_EQ(end.total_usage().completion_tokens(), 3);
}

}  // namespace
}  // namespace krait
