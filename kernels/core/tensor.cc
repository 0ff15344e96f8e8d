#include "kernels/core/tensor.h"

#include "common/logging.h"

namespace krait {
namespace {

Shape WithDimension0(const Shape& shape, int64_t dim0) {
  switch (shape.rank()) {
    case 1:
      return {dim0};
    case 2:
      return {dim0, shape[1]};
    case 3:
      return {dim0, shape[1], shape[2]};
    default:
      CHECK_EQ(shape.rank(), 4);
      return {dim0, shape[1], shape[2], shape[3]};
  }
}

}  // namespace

TensorView TensorView::Rows(int64_t begin, int64_t end) const {
  CHECK(0 <= begin && begin <= end && end <= shape[0]);
  TensorView view = *this;
  view.data = static_cast<char*>(data) + begin * row_stride * ByteSize(dtype);
  view.shape = WithDimension0(shape, end - begin);
  return view;
}

TensorView TensorView::Columns(int64_t begin, int64_t end) const {
  CHECK_EQ(shape.rank(), 2);
  CHECK(0 <= begin && begin <= end && end <= shape[1]);
  TensorView view = *this;
  view.data = static_cast<char*>(data) + begin * ByteSize(dtype);
  view.shape = {shape[0], end - begin};
  return view;
}

TensorView TensorView::WithShape(Shape new_shape) const {
  CHECK_EQ(new_shape.num_elements(), shape.num_elements());
  CHECK_EQ(new_shape[0], shape[0]);
  TensorView view = *this;
  view.shape = new_shape;
  return view;
}

}  // namespace krait
