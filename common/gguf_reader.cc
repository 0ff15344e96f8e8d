#include "common/gguf_reader.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <set>
#include <type_traits>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/input_file.h"
#include "common/status_macros.h"
#include "common/strings.h"

namespace krait {
namespace {

static_assert(std::endian::native == std::endian::little, "GGUF is read as it lies in the file");

constexpr uint64_t kMaxKeys = 1 << 16;
constexpr uint64_t kMaxKeyBytes = 65535;
constexpr uint64_t kMaxStringBytes = 16 << 20;
constexpr uint64_t kMaxArrayElements = 4 << 20;
constexpr uint64_t kMaxTensors = 1 << 20;
constexpr uint64_t kMaxTensorNameBytes = 512;
constexpr uint32_t kMaxRank = 4;
constexpr uint64_t kMaxElements = uint64_t{1} << 40;
constexpr uint64_t kMaxHeaderBytes = uint64_t{256} << 20;

// The value types of the metadata, numbered by the format.
enum ValueType : uint32_t {
  kUint8 = 0,
  kInt8 = 1,
  kUint16 = 2,
  kInt16 = 3,
  kUint32 = 4,
  kInt32 = 5,
  kFloat32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
  kUint64 = 10,
  kInt64 = 11,
  kFloat64 = 12,
};

// Reads forward through the head of the file in pieces; every length is checked against what is
// left of the file before memory is taken for it.
class Cursor {
 public:
  explicit Cursor(const InputFile& file) : file_(file) {}

  uint64_t position() const { return position_; }
  uint64_t left() const { return file_.size() - position_; }

  absl::Status Read(void* out, uint64_t size) {
    if (size > left()) return Truncated(size);
    char* to = static_cast<char*>(out);
    while (size > 0) {
      if (position_ - buffer_start_ >= buffer_.size()) RETURN_IF_ERROR(Refill());
      const uint64_t at = position_ - buffer_start_;
      const uint64_t count = std::min<uint64_t>(size, buffer_.size() - at);
      std::memcpy(to, buffer_.data() + at, count);
      to += count;
      size -= count;
      position_ += count;
    }
    return absl::OkStatus();
  }

  template <typename T>
  absl::StatusOr<T> Number() {
    T value;
    RETURN_IF_ERROR(Read(&value, sizeof(value)));
    return value;
  }

  absl::StatusOr<std::string> String(uint64_t max_bytes) {
    ASSIGN_OR_RETURN(const uint64_t size, Number<uint64_t>());
    if (size > max_bytes) {
      return absl::InvalidArgumentError(
          absl::StrCat("string of ", size, " bytes, the limit is ", max_bytes));
    }
    if (size > left()) return Truncated(size);
    std::string text(size, '\0');
    RETURN_IF_ERROR(Read(text.data(), size));
    return text;
  }

 private:
  absl::Status Truncated(uint64_t size) const {
    return absl::InvalidArgumentError(absl::StrCat("the header wants ", size, " bytes at byte ",
                                                   position_, " of ", file_.size()));
  }

  absl::Status Refill() {
    if (position_ > kMaxHeaderBytes) {
      return absl::InvalidArgumentError(
          absl::StrCat("the header is longer than ", kMaxHeaderBytes, " bytes"));
    }
    buffer_start_ = position_;
    buffer_.resize(std::min<uint64_t>(left(), 1 << 16));
    return file_.ReadAt(position_, absl::MakeSpan(buffer_));
  }

  const InputFile& file_;
  uint64_t position_ = 0;
  uint64_t buffer_start_ = 0;
  std::vector<char> buffer_;
};

template <typename T>
using Widened = std::conditional_t<std::is_floating_point_v<T>, double,
                                   std::conditional_t<std::is_signed_v<T>, int64_t, uint64_t>>;

template <typename T>
absl::StatusOr<GgufValue> ReadNumber(Cursor& cursor) {
  ASSIGN_OR_RETURN(const T value, cursor.Number<T>());
  return GgufValue(static_cast<Widened<T>>(value));
}

absl::StatusOr<bool> ReadBool(Cursor& cursor) {
  ASSIGN_OR_RETURN(const uint8_t value, cursor.Number<uint8_t>());
  if (value > 1) {
    return absl::InvalidArgumentError(absl::StrCat("boolean of value ", int{value}));
  }
  return value == 1;
}

template <typename T>
absl::StatusOr<GgufValue> ReadNumbers(Cursor& cursor, uint64_t count) {
  std::vector<Widened<T>> values;
  values.reserve(count);
  for (uint64_t i = 0; i < count; ++i) {
    ASSIGN_OR_RETURN(const T value, cursor.Number<T>());
    values.push_back(static_cast<Widened<T>>(value));
  }
  return GgufValue(std::move(values));
}

absl::StatusOr<GgufValue> ReadBools(Cursor& cursor, uint64_t count) {
  std::vector<bool> values;
  for (uint64_t i = 0; i < count; ++i) {
    ASSIGN_OR_RETURN(const bool value, ReadBool(cursor));
    values.push_back(value);
  }
  return GgufValue(std::move(values));
}

absl::StatusOr<GgufValue> ReadStrings(Cursor& cursor, uint64_t count) {
  std::vector<std::string> values;
  values.reserve(count);
  for (uint64_t i = 0; i < count; ++i) {
    ASSIGN_OR_RETURN(std::string value, cursor.String(kMaxStringBytes));
    values.push_back(std::move(value));
  }
  return GgufValue(std::move(values));
}

absl::Status UnknownType(uint32_t type) {
  return absl::InvalidArgumentError(absl::StrCat("unknown value type ", type));
}

// The least an element takes in the file; 0 if the type may not stand in an array.
uint64_t MinElementBytes(uint32_t type) {
  switch (type) {
    case kUint8:
    case kInt8:
    case kBool:
      return 1;
    case kUint16:
    case kInt16:
      return 2;
    case kUint32:
    case kInt32:
    case kFloat32:
      return 4;
    case kString:
    case kUint64:
    case kInt64:
    case kFloat64:
      return 8;
    default:
      return 0;
  }
}

absl::StatusOr<GgufValue> ReadArray(Cursor& cursor) {
  ASSIGN_OR_RETURN(const uint32_t type, cursor.Number<uint32_t>());
  ASSIGN_OR_RETURN(const uint64_t count, cursor.Number<uint64_t>());
  if (type == kArray) return absl::InvalidArgumentError("arrays of arrays are not supported");
  const uint64_t element_bytes = MinElementBytes(type);
  if (element_bytes == 0) return UnknownType(type);
  const uint64_t most = std::min(kMaxArrayElements, cursor.left() / element_bytes);
  if (count > most) {
    return absl::InvalidArgumentError(
        absl::StrCat("array of ", count, " elements, at most ", most, " can be here"));
  }
  switch (type) {
    case kUint8:
      return ReadNumbers<uint8_t>(cursor, count);
    case kInt8:
      return ReadNumbers<int8_t>(cursor, count);
    case kUint16:
      return ReadNumbers<uint16_t>(cursor, count);
    case kInt16:
      return ReadNumbers<int16_t>(cursor, count);
    case kUint32:
      return ReadNumbers<uint32_t>(cursor, count);
    case kInt32:
      return ReadNumbers<int32_t>(cursor, count);
    case kFloat32:
      return ReadNumbers<float>(cursor, count);
    case kBool:
      return ReadBools(cursor, count);
    case kString:
      return ReadStrings(cursor, count);
    case kUint64:
      return ReadNumbers<uint64_t>(cursor, count);
    case kInt64:
      return ReadNumbers<int64_t>(cursor, count);
    default:
      return ReadNumbers<double>(cursor, count);
  }
}

absl::StatusOr<GgufValue> ReadValue(Cursor& cursor) {
  ASSIGN_OR_RETURN(const uint32_t type, cursor.Number<uint32_t>());
  switch (type) {
    case kUint8:
      return ReadNumber<uint8_t>(cursor);
    case kInt8:
      return ReadNumber<int8_t>(cursor);
    case kUint16:
      return ReadNumber<uint16_t>(cursor);
    case kInt16:
      return ReadNumber<int16_t>(cursor);
    case kUint32:
      return ReadNumber<uint32_t>(cursor);
    case kInt32:
      return ReadNumber<int32_t>(cursor);
    case kFloat32:
      return ReadNumber<float>(cursor);
    case kUint64:
      return ReadNumber<uint64_t>(cursor);
    case kInt64:
      return ReadNumber<int64_t>(cursor);
    case kFloat64:
      return ReadNumber<double>(cursor);
    case kBool: {
      ASSIGN_OR_RETURN(const bool value, ReadBool(cursor));
      return GgufValue(value);
    }
    case kString: {
      ASSIGN_OR_RETURN(std::string value, cursor.String(kMaxStringBytes));
      return GgufValue(std::move(value));
    }
    case kArray:
      return ReadArray(cursor);
    default:
      return UnknownType(type);
  }
}

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

absl::StatusOr<GgufTensorInfo> ReadTensorInfo(Cursor& cursor) {
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

// Turns offsets in the data section into offsets in the file.
absl::Status PlaceTensor(GgufTensorInfo& tensor, uint64_t data_start, uint64_t alignment,
                         uint64_t file_size) {
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

absl::Status AtFile(const std::string& path, const absl::Status& status) {
  return absl::Status(status.code(), absl::StrCat(path, ": ", status.message()));
}

absl::Status AtTensor(const std::string& path, const std::string& name,
                      const absl::Status& status) {
  return absl::Status(status.code(), absl::StrCat(path, ": tensor ", name, ": ", status.message()));
}

absl::Status AtKey(const std::string& path, std::string_view key, const std::string& reason) {
  return absl::InvalidArgumentError(absl::StrCat(path, ": ", ToAbsl(key), ": ", reason));
}

struct Preamble {
  uint64_t num_tensors = 0;
  uint64_t num_keys = 0;
};

absl::StatusOr<Preamble> ReadPreamble(Cursor& cursor) {
  char magic[4];
  RETURN_IF_ERROR(cursor.Read(magic, sizeof(magic)));
  if (std::memcmp(magic, "GGUF", 4) != 0) return absl::InvalidArgumentError("no GGUF file");
  ASSIGN_OR_RETURN(const uint32_t version, cursor.Number<uint32_t>());
  if (version != 2 && version != 3) {
    const bool swapped = version == 0x02000000 || version == 0x03000000;
    return absl::InvalidArgumentError(
        swapped ? "a big-endian GGUF file; only little-endian ones are read"
                : absl::StrCat("GGUF version ", version, "; versions 2 and 3 are read"));
  }
  Preamble preamble;
  ASSIGN_OR_RETURN(preamble.num_tensors, cursor.Number<uint64_t>());
  ASSIGN_OR_RETURN(preamble.num_keys, cursor.Number<uint64_t>());
  if (preamble.num_tensors > kMaxTensors || preamble.num_keys > kMaxKeys) {
    return absl::InvalidArgumentError(
        absl::StrCat(preamble.num_tensors, " tensors and ", preamble.num_keys,
                     " metadata keys; the limits are ", kMaxTensors, " and ", kMaxKeys));
  }
  return preamble;
}

using Metadata = std::map<std::string, GgufValue, std::less<>>;

absl::Status ReadMetadata(const std::string& path, Cursor& cursor, uint64_t num_keys,
                          Metadata& metadata) {
  for (uint64_t i = 0; i < num_keys; ++i) {
    absl::StatusOr<std::string> key = cursor.String(kMaxKeyBytes);
    if (!key.ok()) {
      return AtFile(path, absl::InvalidArgumentError(
                              absl::StrCat("metadata key ", i, ": ", key.status().message())));
    }
    absl::StatusOr<GgufValue> value = ReadValue(cursor);
    if (!value.ok()) return AtKey(path, *key, std::string(value.status().message()));
    if (!metadata.emplace(*key, *std::move(value)).second) {
      return AtKey(path, *key, "duplicate metadata key");
    }
  }
  return absl::OkStatus();
}

absl::Status ReadTensorTable(const std::string& path, Cursor& cursor, uint64_t num_tensors,
                             std::vector<GgufTensorInfo>& tensors) {
  std::set<std::string> names;
  for (uint64_t i = 0; i < num_tensors; ++i) {
    absl::StatusOr<std::string> name = cursor.String(kMaxTensorNameBytes);
    if (!name.ok()) {
      return AtFile(path, absl::InvalidArgumentError(
                              absl::StrCat("name of tensor ", i, ": ", name.status().message())));
    }
    if (!names.insert(*name).second) {
      return AtTensor(path, *name, absl::InvalidArgumentError("duplicate name"));
    }
    absl::StatusOr<GgufTensorInfo> tensor = ReadTensorInfo(cursor);
    if (!tensor.ok()) return AtTensor(path, *name, tensor.status());
    tensor->name = *std::move(name);
    tensors.push_back(*std::move(tensor));
  }
  return absl::OkStatus();
}

absl::StatusOr<uint64_t> AlignmentOf(const GgufHeader& header) {
  if (!header.Has("general.alignment")) return 32;
  ASSIGN_OR_RETURN(const int64_t alignment, header.GetInt("general.alignment"));
  if (alignment < 8 || alignment > (1 << 20) || !std::has_single_bit<uint64_t>(alignment)) {
    return AtKey(header.path(), "general.alignment",
                 absl::StrCat(alignment, " is no power of two in [8, 2^20]"));
  }
  return static_cast<uint64_t>(alignment);
}

}  // namespace

absl::StatusOr<GgufHeader> GgufHeader::Read(const std::string& path) {
  ASSIGN_OR_RETURN(const InputFile file, InputFile::Open(path));
  Cursor cursor(file);
  const absl::StatusOr<Preamble> preamble = ReadPreamble(cursor);
  if (!preamble.ok()) return AtFile(path, preamble.status());
  GgufHeader header;
  header.path_ = path;
  RETURN_IF_ERROR(ReadMetadata(path, cursor, preamble->num_keys, header.metadata_));
  RETURN_IF_ERROR(ReadTensorTable(path, cursor, preamble->num_tensors, header.tensors_));
  ASSIGN_OR_RETURN(const uint64_t alignment, AlignmentOf(header));
  const uint64_t data_start = (cursor.position() + alignment - 1) / alignment * alignment;
  for (GgufTensorInfo& tensor : header.tensors_) {
    const absl::Status placed = PlaceTensor(tensor, data_start, alignment, file.size());
    if (!placed.ok()) return AtTensor(path, tensor.name, placed);
  }
  RETURN_IF_ERROR(CheckNoOverlap(path, header.tensors_));
  return header;
}

absl::StatusOr<int64_t> GgufHeader::GetInt(std::string_view key) const {
  const auto found = metadata_.find(key);
  if (found == metadata_.end()) return AtKey(path_, key, "missing");
  if (const auto* value = std::get_if<int64_t>(&found->second)) return *value;
  if (const auto* value = std::get_if<uint64_t>(&found->second)) {
    if (*value <= static_cast<uint64_t>(INT64_MAX)) return static_cast<int64_t>(*value);
    return AtKey(path_, key, absl::StrCat(*value, " is above 2^63 - 1"));
  }
  return AtKey(path_, key, "an integer wanted");
}

absl::StatusOr<double> GgufHeader::GetFloat(std::string_view key) const {
  const auto found = metadata_.find(key);
  if (found == metadata_.end()) return AtKey(path_, key, "missing");
  if (const auto* value = std::get_if<double>(&found->second)) return *value;
  return AtKey(path_, key, "a floating-point number wanted");
}

absl::StatusOr<std::string> GgufHeader::GetString(std::string_view key) const {
  const auto found = metadata_.find(key);
  if (found == metadata_.end()) return AtKey(path_, key, "missing");
  if (const auto* value = std::get_if<std::string>(&found->second)) return *value;
  return AtKey(path_, key, "a string wanted");
}

absl::StatusOr<bool> GgufHeader::GetBool(std::string_view key) const {
  const auto found = metadata_.find(key);
  if (found == metadata_.end()) return AtKey(path_, key, "missing");
  if (const auto* value = std::get_if<bool>(&found->second)) return *value;
  return AtKey(path_, key, "a boolean wanted");
}

const std::vector<std::string>* GgufHeader::FindStrings(std::string_view key) const {
  const auto found = metadata_.find(key);
  if (found == metadata_.end()) return nullptr;
  return std::get_if<std::vector<std::string>>(&found->second);
}

std::vector<int64_t> GgufHeader::GetInts(std::string_view key) const {
  const auto found = metadata_.find(key);
  if (found == metadata_.end()) return {};
  if (const auto* values = std::get_if<std::vector<int64_t>>(&found->second)) return *values;
  if (const auto* values = std::get_if<std::vector<uint64_t>>(&found->second)) {
    return {values->begin(), values->end()};
  }
  return {};
}

std::vector<double> GgufHeader::GetFloats(std::string_view key) const {
  const auto found = metadata_.find(key);
  if (found == metadata_.end()) return {};
  if (const auto* values = std::get_if<std::vector<double>>(&found->second)) return *values;
  return {};
}

}  // namespace krait
