#include "worker/cache/cache_storage.h"

#include <cstdint>
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
    ASSIGN_OR_RETURN(pages, backend->Allocate(spec.dtype, {int64_t{2} * spec.num_layers, num_pages,
                                                           page_elements}));
  }
  return std::unique_ptr<CacheStorage>(
      new CacheStorage(spec, num_pages, backend, std::move(pages)));
}

CacheStorage::CacheStorage(const PagedKvSpec& spec, int num_pages, Backend* backend, Tensor pages)
    : spec_(spec), num_pages_(num_pages), backend_(backend), pages_(std::move(pages)) {}

TensorView CacheStorage::Plane(int index) const {
  const int64_t plane_elements = pages_.shape()[1] * pages_.shape()[2];
  return TensorView(pages_.ptr<char>() + index * plane_elements * ByteSize(spec_.dtype),
                    spec_.dtype, {num_pages_, spec_.kv_heads, spec_.page_size, spec_.head_dim});
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
  // All bits set: NaN in f32 and in bf16.
  const std::vector<uint8_t> poison(pages_.shape()[2] * ByteSize(spec_.dtype), 0xff);
  for (int plane = 0; plane < 2 * spec_.num_layers; ++plane) {
    for (const PageId page : pages) {
      CHECK(0 <= page && page < num_pages_);
      backend_->CopyFromHost(poison.data(), Plane(plane).Rows(page, page + 1));
    }
  }
}

}  // namespace krait
