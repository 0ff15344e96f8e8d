#pragma once

#include <algorithm>
#include <memory>
#include <vector>

#include "common/logging.h"
#include "kernels/bench/cuda_step_case.h"
#include "kernels/cuda/cuda_backend.h"

namespace krait::kernels {

// Memory of the device, and arrays of one sequence's pass in it.
class StepMemory {
 public:
  static constexpr int64_t kPageSize = 16, kMaxContext = 4096, kPages = kMaxContext / kPageSize;

  StepMemory(Backend& backend, const std::vector<float>& noise) : backend_(backend), noise_(noise) {
    std::vector<int32_t> table(kPages);
    for (int64_t i = 0; i < kPages; ++i) table[i] = static_cast<int32_t>(i);
    Upload(page_table, table);
    Upload(state_slots, std::vector<int32_t>{0});
  }

  Tensor Allocate(DType dtype, int64_t elements) const {
    auto tensor = backend_.Allocate(dtype, {elements});
    CHECK(tensor.ok()) << tensor.status();
    return *std::move(tensor);
  }
  Tensor Filled(int64_t elements, float scale = 1) const {
    Tensor tensor = Allocate(DType::kF32, elements);
    std::vector<float> values(elements);
    for (int64_t i = 0; i < elements; ++i) values[i] = scale * noise_[i % noise_.size()];
    backend_.CopyFromHost(values.data(), tensor.view());
    return tensor;
  }
  template <typename T>
  void Upload(Tensor& tensor, const std::vector<T>& values) const {
    const auto bytes = static_cast<int64_t>(values.size() * sizeof(T));
    if (tensor.empty()) tensor = Allocate(DType::kU8, std::max<int64_t>(1024, bytes));
    backend_.CopyFromHost(values.data(), TensorView(tensor.ptr<void>(), DType::kU8, {bytes}));
  }

  // Of the ops that follow.
  void Prepare(const StepCase& c) {
    std::vector<int32_t> of_tokens(c.rows);
    std::vector<int64_t> of_slots(c.rows);
    const int64_t first = c.context - c.rows;
    for (int64_t i = 0; i < c.rows; ++i) {
      of_tokens[i] = static_cast<int32_t>(first + i);
      of_slots[i] = first + i;  // pages lie in order
    }
    Upload(positions, of_tokens);
    Upload(slots, of_slots);
    Upload(query_start, std::vector<int32_t>{0, static_cast<int32_t>(c.rows)});
    const auto start = static_cast<int32_t>(first / kFoldInterval * kFoldInterval + kHeldInputs);
    Upload(first_position_, std::vector<int32_t>{start});
    Upload(final_position_, std::vector<int32_t>{start + 1});
    Upload(state_position_, std::vector<int32_t>{start});
    backend_.Synchronize();
  }
  RecurrentBatch recurrent() const {
    return {.num_sequences = 1,
            .query_start = query_start.ptr<int32_t>(),
            .slots = state_slots.ptr<int32_t>(),
            .first_position = first_position_.ptr<int32_t>(),
            .final_position = final_position_.ptr<int32_t>(),
            .state_position = state_position_.ptr<int32_t>()};
  }

  Tensor positions, query_start, slots, page_table, state_slots;

 private:
  Backend& backend_;
  const std::vector<float>& noise_;
  Tensor first_position_, final_position_, state_position_;
};

}  // namespace krait::kernels
