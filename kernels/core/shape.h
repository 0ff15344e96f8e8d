#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <string>

#include "common/logging.h"

namespace krait {

// Up to six dimensions, outermost first.
class Shape {
 public:
  Shape() = default;
  Shape(std::initializer_list<int64_t> dims) {
    CHECK_LE(dims.size(), dims_.size());
    for (int64_t dim : dims) {
      CHECK_GE(dim, 0);
      dims_[rank_++] = dim;
    }
  }

  int rank() const { return rank_; }
  int64_t operator[](int i) const { return dims_[i]; }
  int64_t num_elements() const {
    int64_t n = 1;
    for (int i = 0; i < rank_; ++i) n *= dims_[i];
    return n;
  }
  bool operator==(const Shape&) const = default;

  // "[2, 3]"
  std::string ToString() const {
    std::string text = "[";
    for (int i = 0; i < rank_; ++i) text += (i ? ", " : "") + std::to_string(dims_[i]);
    return text + "]";
  }

 private:
  std::array<int64_t, 6> dims_{};
  int rank_ = 0;
};

}  // namespace krait
