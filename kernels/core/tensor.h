#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <utility>

#include "kernels/core/dtype.h"
#include "kernels/core/shape.h"

namespace krait {

// Borrows memory of one device; cheap to copy. Dimension 0 may be strided, so that a view can be
// some columns of a wider matrix; the others are contiguous.
struct TensorView {
  void* data = nullptr;
  DType dtype = DType::kF32;
  Shape shape;
  int64_t row_stride = 0;  // elements from one index of dimension 0 to the next

  TensorView() = default;
  TensorView(void* data, DType dtype, Shape shape)
      : data(data), dtype(dtype), shape(shape), row_stride(DenseRowStride(shape)) {}

  template <typename T>
  T* ptr() const {
    return static_cast<T*>(data);
  }
  template <typename T>
  T* row(int64_t i) const {
    return static_cast<T*>(data) + i * row_stride;
  }
  int64_t dim(int i) const { return shape[i]; }
  bool dense() const { return row_stride == DenseRowStride(shape); }

  // Rows [begin, end) of dimension 0.
  TensorView Rows(int64_t begin, int64_t end) const;
  // A matrix's columns [begin, end), same rows; result is [rows, end - begin] with this row stride.
  TensorView Columns(int64_t begin, int64_t end) const;
  // The same memory with another shape whose dimension 0 and elements a row are unchanged.
  TensorView WithShape(Shape new_shape) const;

  static int64_t DenseRowStride(const Shape& shape) {
    int64_t stride = 1;
    for (int i = 1; i < shape.rank(); ++i) stride *= shape[i];
    return stride;
  }
};

// Owns dense memory of one device, freed by the deleter of the backend that allocated it.
// Move-only.
class Tensor {
 public:
  using Deleter = std::function<void(void*)>;

  Tensor() = default;
  Tensor(void* data, Deleter deleter, DType dtype, Shape shape)
      : memory_(data, std::move(deleter)), dtype_(dtype), shape_(shape) {}

  bool empty() const { return memory_ == nullptr; }
  DType dtype() const { return dtype_; }
  const Shape& shape() const { return shape_; }
  int64_t num_bytes() const { return shape_.num_elements() * ByteSize(dtype_); }
  TensorView view() const { return TensorView(memory_.get(), dtype_, shape_); }
  template <typename T>
  T* ptr() const {
    return static_cast<T*>(memory_.get());
  }

 private:
  std::unique_ptr<void, Deleter> memory_{nullptr, [](void*) {}};
  DType dtype_ = DType::kF32;
  Shape shape_;
};

}  // namespace krait
