#include "kernels/cpu/weight_arena.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>

namespace krait::kernels {
namespace {

constexpr int64_t kHugePage = int64_t{2} << 20;

bool IsZero(const std::byte* data, int64_t size) {
  return std::all_of(data, data + size, [](std::byte b) { return b == std::byte{0}; });
}

TEST(WeightArenaTest, BlocksFollowEachOtherOnCacheLines) {
  WeightArena arena;
  std::byte* first = arena.Allocate(100);
  std::byte* second = arena.Allocate(64);
  std::byte* third = arena.Allocate(1);
  ASSERT_NE(first, nullptr);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(first) % kHugePage, 0u);
  EXPECT_EQ(second - first, 128);
  EXPECT_EQ(third - second, 64);
}

TEST(WeightArenaTest, BlocksAreZeroAndEachOnesOwn) {
  WeightArena arena;
  std::byte* first = arena.Allocate(4096);
  std::byte* second = arena.Allocate(4096);
  EXPECT_TRUE(IsZero(first, 4096));
  std::fill_n(first, 4096, std::byte{0xff});
  EXPECT_TRUE(IsZero(second, 4096));
}

TEST(WeightArenaTest, ABlockLargerThanAChunkIsInOnePiece) {
  WeightArena arena;
  arena.Allocate(10);
  constexpr int64_t kLarge = (int64_t{64} << 20) + 1;
  std::byte* large = arena.Allocate(kLarge);
  ASSERT_NE(large, nullptr);
  large[0] = large[kLarge - 1] = std::byte{1};
  // Its last huge page has room left.
  EXPECT_EQ(arena.Allocate(64) - large, kLarge - 1 + 64);
}

TEST(WeightArenaTest, WithoutMemoryItSaysSoAndGoesOn) {
  WeightArena arena;
  EXPECT_EQ(arena.Allocate(int64_t{1} << 60), nullptr);
  EXPECT_NE(arena.Allocate(64), nullptr);
}

}  // namespace
}  // namespace krait::kernels
