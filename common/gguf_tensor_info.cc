#include "common/gguf_tensor_info.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace krait {
namespace {

constexpr uint32_t kMaxRank = 4;
constexpr uint64_t kMaxElements = uint64_t{1} << 40;

// ggml's types: elements and bytes of one block. {0, 0}: unknown to this reader.
struct BlockLayout {
  uint64_t elements = 0;
  uint64_t bytes = 0;
};

BlockLayout LayoutOf(uint32_t type) {
  struct Row {
    uint32_t type;
    BlockLayout layout;
  };
  static constexpr Row kRows[] = {
      {0, {1, 4}},       // F32
      {1, {1, 2}},       // F16
      {2, {32, 18}},     // Q4_0
      {3, {32, 20}},     // Q4_1
      {6, {32, 22}},     // Q5_0
      {7, {32, 24}},     // Q5_1
      {8, {32, 34}},     // Q8_0
      {9, {32, 36}},     // Q8_1
      {10, {256, 84}},   // Q2_K
      {11, {256, 110}},  // Q3_K
      {12, {256, 144}},  // Q4_K
      {13, {256, 176}},  // Q5_K
      {14, {256, 210}},  // Q6_K
      {15, {256, 292}},  // Q8_K
      {24, {1, 1}},      // I8
      {25, {1, 2}},      // I16
      {26, {1, 4}},      // I32
      {27, {1, 8}},      // I64
      {28, {1, 8}},      // F64
      {30, {1, 2}},      // BF16
  };
  for (const Row& row : kRows) {
    if (row.type == type) return row.layout;
  }
  return {};
}

absl::StatusOr<uint64_t> CheckedBytes(const GgufTensorInfo& tensor) {
  uint64_t elements = 1;
  for (int64_t dim : tensor.shape) {
    if (dim < 1 || static_cast<uint64_t>(dim) > kMaxElements / elements) {
      return absl::InvalidArgumentError(absl::StrCat("dimension of ", dim,
                                                     ": 1 or more wanted, and at most ",
                                                     kMaxElements, " elements in all"));
    }
    elements *= static_cast<uint64_t>(dim);
  }
  const BlockLayout layout = LayoutOf(tensor.type);
  if (layout.elements == 0) {
    return absl::InvalidArgumentError(absl::StrCat("unknown type ", tensor.type));
  }
  const uint64_t row = tensor.shape.empty() ? 1 : static_cast<uint64_t>(tensor.shape[0]);
  if (row % layout.elements != 0) {
    return absl::InvalidArgumentError(absl::StrCat("rows of ", row, " elements, not a multiple of ",
                                                   layout.elements, ", its type's block"));
  }
  return elements / layout.elements * layout.bytes;
}

}  // namespace

absl::StatusOr<GgufTensorInfo> ReadGgufTensorInfo(GgufCursor& cursor) {
  GgufTensorInfo tensor;
  ASSIGN_OR_RETURN(const uint32_t rank, cursor.Number<uint32_t>());
  if (rank > kMaxRank) {
    return absl::InvalidArgumentError(absl::StrCat(rank, " dimensions, the limit is ", kMaxRank));
  }
  for (uint32_t i = 0; i < rank; ++i) {
    ASSIGN_OR_RETURN(const uint64_t dim, cursor.Number<uint64_t>());
    tensor.shape.push_back(static_cast<int64_t>(std::min<uint64_t>(dim, INT64_MAX)));
  }
  ASSIGN_OR_RETURN(tensor.type, cursor.Number<uint32_t>());
  ASSIGN_OR_RETURN(tensor.offset, cursor.Number<uint64_t>());
  ASSIGN_OR_RETURN(tensor.num_bytes, CheckedBytes(tensor));
  return tensor;
}

absl::Status PlaceGgufTensor(uint64_t data_start, uint64_t alignment, uint64_t file_size,
                             GgufTensorInfo& tensor) {
  if (tensor.offset % alignment != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("offset ", tensor.offset, " is not a multiple of ", alignment));
  }
  const uint64_t data_size = file_size > data_start ? file_size - data_start : 0;
  if (tensor.offset > data_size || tensor.num_bytes > data_size - tensor.offset) {
    return absl::InvalidArgumentError(absl::StrCat(tensor.num_bytes, " bytes at data offset ",
                                                   tensor.offset, " end after the file's ",
                                                   data_size, " bytes of data"));
  }
  tensor.offset += data_start;
  return absl::OkStatus();
}

absl::Status CheckNoOverlap(const std::string& path, std::vector<GgufTensorInfo> tensors) {
  std::sort(tensors.begin(), tensors.end(),
            [](const auto& a, const auto& b) { return a.offset < b.offset; });
  for (size_t i = 1; i < tensors.size(); ++i) {
    if (tensors[i - 1].offset + tensors[i - 1].num_bytes <= tensors[i].offset) continue;
    return absl::InvalidArgumentError(absl::StrCat(path, ": tensor ", tensors[i].name,
                                                   ": overlaps tensor ", tensors[i - 1].name));
  }
  return absl::OkStatus();
}

}  // namespace krait
