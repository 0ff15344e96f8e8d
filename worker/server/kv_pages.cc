#include "worker/server/kv_pages.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/field_error.h"
#include "worker/cache/cache_spec.h"

namespace krait {

absl::StatusOr<int> NumKvPages(const WorkerOptions& options, const ModelConfig& config) {
  const PagedKvSpec spec{.num_layers = static_cast<int>(config.num_layers),
                         .kv_heads = static_cast<int>(config.num_kv_heads),
                         .head_dim = static_cast<int>(config.head_dim),
                         .page_size = options.page_size};
  const int64_t bytes = int64_t{options.kv_cache_mib} << 20;
  const int64_t affordable = bytes / spec.bytes_per_page();
  if (affordable < 2) {
    return FieldError("kv_cache_mib",
                      absl::StrCat(options.kv_cache_mib, " MiB hold ", affordable, " pages of ",
                                   spec.bytes_per_page(), " bytes; at least 2 are needed"));
  }
  int64_t context = config.max_context_tokens;
  if (options.max_context_tokens > 0) {
    context = std::min<int64_t>(context, options.max_context_tokens);
  }
  const int64_t pages_a_sequence = (context + options.page_size - 1) / options.page_size;
  const int64_t usable = pages_a_sequence * options.max_running;
  return static_cast<int>(std::clamp<int64_t>(affordable, 2, std::max<int64_t>(2, usable)));
}

}  // namespace krait
