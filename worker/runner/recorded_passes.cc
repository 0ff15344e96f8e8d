#include "worker/runner/recorded_passes.h"

#include <utility>

namespace krait {
namespace {

constexpr int64_t kMaxTokens = 64;  // larger passes keep a device busy
constexpr size_t kMaxPasses = 256;  // recorded at a time

}  // namespace

absl::Status RecordedPasses::Run(const ForwardContext& context,
                                 absl::FunctionRef<absl::Status()> pass) {
  if (context.num_tokens > kMaxTokens) return pass();
  const Key key = {context.num_tokens,  context.num_sequences,           context.page_table_stride,
                   context.num_logits,  context.draw_choices != nullptr, context.any_filtered_draw,
                   context.slot_mapping};
  const auto found = passes_.find(key);
  if (found == passes_.end()) {
    if (passes_.size() >= kMaxPasses) passes_.clear();
    passes_[key] = nullptr;
    return pass();
  }
  if (found->second == nullptr) {
    absl::Status status;
    found->second = backend_->Record([&] { status = pass(); });
    if (!status.ok()) passes_.erase(found);
    if (!status.ok()) return status;
    if (found->second == nullptr) return pass();
  }
  found->second->Run();
  return absl::OkStatus();
}

}  // namespace krait
