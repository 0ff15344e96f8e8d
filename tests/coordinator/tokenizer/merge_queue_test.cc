#include "coordinator/tokenizer/merge_queue.h"

#include <gtest/gtest.h>

#include <random>
#include <set>
#include <utility>

namespace krait {
namespace {

// A sorted multiset is the plain twin. Positions ascend for a while, then jump back, as they do
// when words of mixed text merge.
TEST(MergeQueueTest, OrderEqualsASortedSetWhateverTheOrderOfPushes) {
  std::mt19937 random(11);
  MergeQueue queue;
  for (int round = 0; round < 300; ++round) {
    queue.Clear();
    std::multiset<std::pair<uint32_t, int32_t>> twin;
    int32_t position = 0;
    for (int step = 0; step < 200; ++step) {
      if (random() % 3 != 0) {
        position = random() % 8 == 0 ? static_cast<int32_t>(random() % 100) : position + 1;
        const auto rank = static_cast<uint32_t>(random() % (1 + static_cast<uint32_t>(round) % 5));
        queue.Push({rank, position});
        twin.emplace(rank, position);
      }
      ASSERT_EQ(queue.empty(), twin.empty());
      if (twin.empty() || random() % 2 == 0) continue;
      const MergeQueue::Candidate candidate = queue.Pop();
      ASSERT_EQ(std::make_pair(candidate.rank, candidate.position), *twin.begin());
      twin.erase(twin.begin());
    }
  }
}

}  // namespace
}  // namespace krait
