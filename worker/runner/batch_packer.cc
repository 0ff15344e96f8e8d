#include "worker/runner/batch_packer.h"

#include <algorithm>

#include "common/logging.h"

namespace krait {

const ForwardContext& BatchPacker::Pack(absl::Span<const BatchRow> rows) {
  Clear();
  size_t stride = 1;
  for (const BatchRow& row : rows) stride = std::max(stride, row.page_table.size());
  for (const BatchRow& row : rows) Append(row, stride);
  context_ = {.num_tokens = static_cast<int64_t>(token_ids_.size()),
              .num_sequences = static_cast<int>(rows.size()),
              .token_ids = token_ids_.data(),
              .positions = positions_.data(),
              .query_start = query_start_.data(),
              .slot_mapping = slot_mapping_.data(),
              .page_table = page_table_.data(),
              .page_table_stride = static_cast<int64_t>(stride),
              .recurrent = {.num_sequences = static_cast<int>(rows.size()),
                            .query_start = query_start_.data(),
                            .slots = state_slots_.data(),
                            .first_position = first_positions_.data(),
                            .final_position = final_positions_.data(),
                            .state_position = state_positions_.data()},
              .logits_rows = logits_rows_.data(),
              .num_logits = static_cast<int64_t>(logits_rows_.size())};
  return context_;
}

void BatchPacker::Clear() {
  token_ids_.clear();
  positions_.clear();
  query_start_.assign(1, 0);
  page_table_.clear();
  logits_rows_.clear();
  slot_mapping_.clear();
  for (auto* each : {&state_slots_, &first_positions_, &final_positions_, &state_positions_}) {
    each->clear();
  }
}

void BatchPacker::Append(const BatchRow& row, size_t page_table_stride) {
  const int num_tokens = static_cast<int>(row.token_ids.size());
  CHECK_GE(num_tokens, 1);
  CHECK(0 <= row.num_logits && row.num_logits <= num_tokens);
  CHECK_LE(row.first_position + num_tokens,
           static_cast<int64_t>(row.page_table.size()) * page_size_);
  for (int i = 0; i < num_tokens; ++i) {
    const int position = row.first_position + i;
    const int64_t page = row.page_table[position / page_size_];
    token_ids_.push_back(row.token_ids[i]);
    positions_.push_back(position);
    slot_mapping_.push_back(page * page_size_ + position % page_size_);
  }
  state_slots_.push_back(row.state_slot);
  first_positions_.push_back(row.first_position);
  final_positions_.push_back(row.final_position);
  state_positions_.push_back(row.state_position);
  const int32_t end = static_cast<int32_t>(token_ids_.size());
  query_start_.push_back(end);
  for (int32_t i = end - row.num_logits; i < end; ++i) logits_rows_.push_back(i);
  page_table_.insert(page_table_.end(), row.page_table.begin(), row.page_table.end());
  page_table_.resize(page_table_.size() + page_table_stride - row.page_table.size(), 0);
}

}  // namespace krait
