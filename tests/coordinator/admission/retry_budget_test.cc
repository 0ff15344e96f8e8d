#include "coordinator/admission/retry_budget.h"

#include <gtest/gtest.h>

namespace krait {
namespace {

TEST(RetryBudgetTest, BurstThenTheShareOfRequests) {
  RetryBudget budget(10, 3);
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(budget.TryRetry());
  EXPECT_FALSE(budget.TryRetry());
  int retries = 0;
  for (int i = 0; i < 1000; ++i) {
    budget.OnRequest();
    retries += budget.TryRetry();
  }
  EXPECT_EQ(retries, 100);
}

TEST(RetryBudgetTest, QuietTimesSaveUpNoMoreThanTheBurst) {
  RetryBudget budget(50, 2);
  for (int i = 0; i < 1000; ++i) budget.OnRequest();
  int retries = 0;
  while (budget.TryRetry()) ++retries;
  EXPECT_EQ(retries, 2);
}

TEST(RetryBudgetTest, ZeroNeverRetries) { EXPECT_FALSE(RetryBudget(0, 0).TryRetry()); }

}  // namespace
}  // namespace krait
