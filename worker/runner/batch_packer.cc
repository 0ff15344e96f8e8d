#include "worker/runner/batch_packer.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

#include "common/logging.h"
#include "common/status_macros.h"

namespace krait {
namespace {

constexpr size_t kChoiceWords = sizeof(DrawChoice) / sizeof(int32_t);
static_assert(sizeof(DrawChoice) % sizeof(int64_t) == 0, "an array of them keeps its alignment");

}  // namespace

absl::StatusOr<ForwardContext> BatchPacker::Pack(absl::Span<const BatchRow> rows,
                                                 absl::Span<const DrawChoice> draws) {
  Clear();
  size_t stride = 1;
  for (const BatchRow& row : rows) stride = std::max(stride, row.page_table.size());
  stride = std::bit_ceil(stride);  // few shapes: passes of equal ones are recorded
  for (const BatchRow& row : rows) Append(row, stride);
  CHECK(draws.empty() || draws.size() == logits_rows_.size());
  RETURN_IF_ERROR(Upload(draws));
  // Arrays in the order of Upload.
  const int32_t* next = device_.ptr<int32_t>();
  const auto take = [&next](size_t count) { return std::exchange(next, next + count); };
  const size_t num_tokens = token_ids_.size(), num_rows = rows.size();
  ForwardContext context;
  context.num_tokens = static_cast<int64_t>(num_tokens);
  context.num_sequences = static_cast<int>(num_rows);
  context.slot_mapping = reinterpret_cast<const int64_t*>(take(2 * num_tokens));
  if (!draws.empty()) {
    context.draw_choices = reinterpret_cast<const DrawChoice*>(take(draws.size() * kChoiceWords));
  }
  context.token_ids = take(num_tokens);
  context.token_sources = take(num_tokens);
  context.positions = take(num_tokens);
  context.query_start = take(num_rows + 1);
  context.page_table = take(page_table_.size());
  context.page_table_stride = static_cast<int64_t>(stride);
  context.recurrent = {.num_sequences = context.num_sequences,
                       .query_start = context.query_start,
                       .slots = take(num_rows),
                       .first_position = take(num_rows),
                       .final_position = take(num_rows),
                       .state_position = take(num_rows)};
  context.logits_rows = take(logits_rows_.size());
  context.num_logits = static_cast<int64_t>(logits_rows_.size());
  return context;
}

// One copy: on a device each has its latency.
absl::Status BatchPacker::Upload(absl::Span<const DrawChoice> draws) {
  // What holds words of 64 bits first.
  const size_t slot_words = 2 * slot_mapping_.size();
  packed_.resize(slot_words + draws.size() * kChoiceWords);
  std::memcpy(packed_.data(), slot_mapping_.data(), slot_mapping_.size() * sizeof(int64_t));
  std::memcpy(packed_.data() + slot_words, draws.data(), draws.size() * sizeof(DrawChoice));
  for (const auto* each :
       {&token_ids_, &token_sources_, &positions_, &query_start_, &page_table_, &state_slots_,
        &first_positions_, &final_positions_, &state_positions_, &logits_rows_}) {
    packed_.insert(packed_.end(), each->begin(), each->end());
  }
  const auto size = static_cast<int64_t>(packed_.size());
  if (device_.empty() || device_.shape()[0] < size) {
    ASSIGN_OR_RETURN(Tensor larger, backend_->Allocate(DType::kI32, {2 * size}));
    replaced_.push_back(std::exchange(device_, std::move(larger)));
  }
  backend_->CopyFromHost(packed_.data(), TensorView(device_.ptr<int32_t>(), DType::kI32, {size}));
  return absl::OkStatus();
}

void BatchPacker::Clear() {
  token_ids_.clear();
  token_sources_.clear();
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
  CHECK(row.pending_draw < 0 || num_tokens == 1);
  CHECK(0 <= row.num_logits && row.num_logits <= num_tokens);
  CHECK_LE(row.first_position + num_tokens,
           static_cast<int64_t>(row.page_table.size()) * page_size_);
  for (int i = 0; i < num_tokens; ++i) {
    const int position = row.first_position + i;
    const int64_t page = row.page_table[position / page_size_];
    token_ids_.push_back(row.token_ids[i]);
    token_sources_.push_back(row.pending_draw);
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
