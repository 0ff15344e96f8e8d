#include "worker/cache/cache_storage.h"

#include <gtest/gtest.h>

#include <cmath>

namespace krait {
namespace {

constexpr PagedKvSpec kSpec{.num_layers = 2, .kv_heads = 3, .head_dim = 4, .page_size = 8};

TEST(CacheStorageTest, LayersKeysAndValuesDoNotOverlap) {
  const auto backend = CreateCpuBackend({});
  const auto storage = *CacheStorage::Create(kSpec, 5, backend.get());
  const TensorView views[] = {storage->Keys(0), storage->Values(0), storage->Keys(1),
                              storage->Values(1)};
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(views[i].shape, (Shape{5, 3, 8, 4}));
    for (int64_t e = 0; e < views[i].shape.num_elements(); ++e) {
      EXPECT_EQ(views[i].ptr<float>()[e], 0.0f);  // nobody wrote here before
      views[i].ptr<float>()[e] = static_cast<float>(i + 1);
    }
  }
}

TEST(CacheStorageTest, PoisonFillsExactlyThePagesNamed) {
  const auto backend = CreateCpuBackend({});
  const auto storage = *CacheStorage::Create(kSpec, 5, backend.get());
  storage->Poison({1, 4});
  for (int layer = 0; layer < 2; ++layer) {
    for (const TensorView& view : {storage->Keys(layer), storage->Values(layer)}) {
      for (PageId page = 0; page < 5; ++page) {
        for (int e = 0; e < 3 * 8 * 4; ++e) {
          EXPECT_EQ(std::isnan(view.row<float>(page)[e]), page == 1 || page == 4);
        }
      }
    }
  }
}

}  // namespace
}  // namespace krait
