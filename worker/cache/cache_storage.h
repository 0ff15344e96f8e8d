#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/backend.h"
#include "kernels/core/tensor.h"
#include "worker/cache/cache_spec.h"

namespace krait {

// The memory behind the page ids: one rank's KV pages, allocated once. It knows neither sequences
// nor which pages are free. Rank thread only.
class CacheStorage {
 public:
  // `backend` outlives the storage. RESOURCE_EXHAUSTED names the bytes.
  static absl::StatusOr<std::unique_ptr<CacheStorage>> Create(const PagedKvSpec& spec,
                                                              int num_pages, Backend* backend);

  TensorView Keys(int layer) const;    // [num_pages, kv_heads, page_size, head_dim], spec().dtype
  TensorView Values(int layer) const;  // same

  // Fills pages with NaN in every layer, so that a read of a page before it was written shows.
  void Poison(absl::Span<const PageId> pages);

  const PagedKvSpec& spec() const { return spec_; }
  int num_pages() const { return num_pages_; }

 private:
  CacheStorage(const PagedKvSpec& spec, int num_pages, Backend* backend, Tensor pages);
  TensorView Plane(int index) const;

  const PagedKvSpec spec_;
  const int num_pages_;
  Backend* const backend_;
  const Tensor pages_;  // [2 num_layers, num_pages, kv_heads * page_size * head_dim]
};

}  // namespace krait
