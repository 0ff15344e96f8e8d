#include "worker/cache/cache_manager.h"

#include <random>

#include "gtest/gtest.h"
#include "worker/cache/id_allocator.h"

namespace krait {
namespace {

TEST(IdAllocatorTest, FreedPageIsReusedFirst) {
  IdAllocator allocator(4);
  std::vector<PageId> pages;
  allocator.Allocate(3, pages);
  allocator.Free({pages[1]});
  std::vector<PageId> next;
  allocator.Allocate(1, next);
  EXPECT_EQ(next[0], pages[1]);
  allocator.CheckIntegrity();
}

TEST(IdAllocatorDeathTest, FreeingTwiceIsABug) {
  IdAllocator allocator(2);
  std::vector<PageId> pages;
  allocator.Allocate(1, pages);
  allocator.Free(pages);
  EXPECT_DEATH(allocator.Free(pages), "is not held");
}

TEST(CacheManagerTest, AdmissionKeepsPagesFromOthers) {
  CacheManager cache({.num_pages = 4, .page_size = 4});
  CacheCursor a, b;
  ASSERT_TRUE(cache.Admit(a, 9).ok());  // 3 pages
  EXPECT_EQ(cache.num_free_pages(), 1);
  EXPECT_EQ(cache.Admit(b, 5).code(), absl::StatusCode::kResourceExhausted);
  EXPECT_TRUE(cache.Reserve(b, 4).ok());
  EXPECT_EQ(cache.Reserve(b, 5).code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(b.page_table.size(), 1u);
  EXPECT_TRUE(cache.Reserve(a, 9).ok());
  EXPECT_EQ(a.page_table.size(), 3u);
  cache.CheckIntegrity();
}

TEST(CacheManagerTest, ReserveCountsFromComputedTokensAndKeepsWhatItGave) {
  CacheManager cache({.num_pages = 8, .page_size = 4});
  CacheCursor cursor;
  ASSERT_TRUE(cache.Reserve(cursor, 5).ok());
  cache.Commit(cursor, 2);  // three drafts were rejected
  EXPECT_EQ(cursor.page_table.size(), 2u);
  ASSERT_TRUE(cache.Reserve(cursor, 6).ok());
  EXPECT_EQ(cursor.page_table.size(), 2u) << "8 tokens fit into the two pages";
  cache.Release(cursor);
  EXPECT_EQ(cache.num_free_pages(), 8);
}

TEST(CacheManagerDeathTest, CommitBeyondTheReservedIsABug) {
  CacheManager cache({.num_pages = 2, .page_size = 4});
  CacheCursor cursor;
  ASSERT_TRUE(cache.Reserve(cursor, 4).ok());
  EXPECT_DEATH(cache.Commit(cursor, 5), "Check failed");
}

// Against the plainest model of the same rules: counts only.
TEST(CacheManagerTest, RandomTracesConserveEveryPage) {
  constexpr int kPageSize = 8;
  for (uint32_t seed = 0; seed < 50; ++seed) {
    std::mt19937 random(seed);
    CacheManager cache({.num_pages = 40, .page_size = kPageSize});
    struct Live {
      CacheCursor cursor;
      int limit;
    };
    std::vector<Live> live;
    for (int step = 0; step < 300; ++step) {
      const int action = random() % 3;
      if (action == 0) {
        Live next{{}, static_cast<int>(1 + random() % 100)};
        if (cache.Admit(next.cursor, next.limit).ok()) live.push_back(next);
      } else if (!live.empty() && action == 1) {
        Live& one = live[random() % live.size()];
        const int room = one.limit - one.cursor.num_computed_tokens;
        if (room == 0) continue;
        const int tokens = 1 + random() % room;
        ASSERT_TRUE(cache.Reserve(one.cursor, tokens).ok()) << "its admission covers it";
        cache.Commit(one.cursor, random() % (tokens + 1));
      } else if (!live.empty()) {
        const size_t victim = random() % live.size();
        cache.Release(live[victim].cursor);
        live.erase(live.begin() + victim);
      }
      cache.CheckIntegrity();
      int taken = 0;
      for (const Live& one : live) taken += (one.limit + kPageSize - 1) / kPageSize;
      ASSERT_EQ(cache.num_free_pages(), 40 - taken) << "seed=" << seed << " step=" << step;
    }
  }
}

}  // namespace
}  // namespace krait
