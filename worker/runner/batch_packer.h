#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/token.h"
#include "kernels/backend.h"
#include "worker/cache/cache_spec.h"
#include "worker/layers/forward_context.h"

namespace krait {

// One sequence's part of a forward pass.
struct BatchRow {
  absl::Span<const TokenId> token_ids;  // to run now, at least one
  int first_position = 0;               // absolute position of token_ids[0]
  absl::Span<const PageId>
      page_table;      // covers positions 0 .. first_position + token_ids.size() - 1
  int num_logits = 0;  // logits are wanted for the last so many of token_ids
  // Of a model with recurrent layers (kernels/ops/recurrent_batch.h): its slot, up to which
  // position tokens are final, and the final_position of the row before it of the same sequence.
  StateSlotId state_slot = kNullSlot;
  int final_position = 0;
  int state_position = 0;
  // token_ids is one token that the pass before has drawn and nobody has read: of its row of
  // logits, whatever token_ids says. -1: token_ids are known.
  int pending_draw = -1;
};

// Lays rows out as a ForwardContext on the backend's device, keeping the memory until the next
// Pack. Rank thread only.
class BatchPacker {
 public:
  BatchPacker(int page_size, Backend* backend) : page_size_(page_size), backend_(backend) {}
  // The context is valid until the next call. Logits rows are in the order of `rows`; `draws` says
  // how each of them is drawn from, or is empty. RESOURCE_EXHAUSTED names the bytes, if a batch
  // larger than any before has no room.
  absl::StatusOr<ForwardContext> Pack(absl::Span<const BatchRow> rows,
                                      absl::Span<const DrawChoice> draws = {});

 private:
  void Clear();
  void Append(const BatchRow& row, size_t page_table_stride);
  absl::Status Upload(absl::Span<const DrawChoice> draws);

  const int page_size_;
  Backend* const backend_;
  std::vector<int32_t> token_ids_, token_sources_, positions_, query_start_, page_table_;
  std::vector<int32_t> logits_rows_;
  std::vector<int32_t> state_slots_, first_positions_, final_positions_, state_positions_;
  std::vector<int64_t> slot_mapping_;
  std::vector<int32_t> packed_;  // all of them, one after the other
  Tensor device_;                // [at least packed_.size()], i32
  // Too small by now. Freeing would wait for the whole device, where a peer's op may wait for this
  // rank.
  std::vector<Tensor> replaced_;
};

}  // namespace krait
