#include "worker/cache/cache_storage.h"

#include <limits>
#include <utility>
#include <vector>

#include "common/logging.h"
#include "common/status_macros.h"

namespace krait {

absl::StatusOr<std::unique_ptr<CacheStorage>> CacheStorage::Create(const PagedKvSpec& spec,
                                                                   int num_pages,
                                                                   Backend* backend) {
  CHECK_GT(num_pages, 0);
  const int64_t page_elements = int64_t{spec.kv_heads} * spec.page_size * spec.head_dim;
  Tensor pages;  // none without layers of attention: pages then only count tokens
  if (spec.num_layers > 0) {
    ASSIGN_OR_RETURN(pages, backend->Allocate(DType::kF32, {int64_t{2} * spec.num_layers, num_pages,
                                                            page_elements}));
  }
  return std::unique_ptr<CacheStorage>(
      new CacheStorage(spec, num_pages, backend, std::move(pages)));
}

CacheStorage::CacheStorage(const PagedKvSpec& spec, int num_pages, Backend* backend, Tensor pages)
    : spec_(spec), num_pages_(num_pages), backend_(backend), pages_(std::move(pages)) {}

TensorView CacheStorage::Plane(int index) const {
  const int64_t plane_elements = pages_.shape()[1] * pages_.shape()[2];
  return TensorView(pages_.ptr<float>() + index * plane_elements, DType::kF32,
                    {num_pages_, spec_.kv_heads, spec_.page_size, spec_.head_dim});
}

TensorView CacheStorage::Keys(int layer) const {
  CHECK(0 <= layer && layer < spec_.num_layers);
  return Plane(2 * layer);
}

TensorView CacheStorage::Values(int layer) const {
  CHECK(0 <= layer && layer < spec_.num_layers);
  return Plane(2 * layer + 1);
}

void CacheStorage::Poison(absl::Span<const PageId> pages) {
  if (spec_.num_layers == 0) return;
  const std::vector<float> poison(pages_.shape()[2], std::numeric_limits<float>::quiet_NaN());
  for (int plane = 0; plane < 2 * spec_.num_layers; ++plane) {
    for (const PageId page : pages) {
      CHECK(0 <= page && page < num_pages_);
      backend_->CopyFromHost(poison.data(), Plane(plane).Rows(page, page + 1));
    }
  }
}

}  // namespace krait
