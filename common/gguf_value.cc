#include "common/gguf_value.h"

#include <algorithm>
#include <type_traits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace krait {
namespace {

constexpr uint64_t kMaxStringBytes = 16 << 20;
constexpr uint64_t kMaxArrayElements = 4 << 20;

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

template <typename T>
using Widened = std::conditional_t<std::is_floating_point_v<T>, double,
                                   std::conditional_t<std::is_signed_v<T>, int64_t, uint64_t>>;

template <typename T>
absl::StatusOr<GgufValue> ReadNumber(GgufCursor& cursor) {
  ASSIGN_OR_RETURN(const T value, cursor.Number<T>());
  return GgufValue(static_cast<Widened<T>>(value));
}

absl::StatusOr<bool> ReadBool(GgufCursor& cursor) {
  ASSIGN_OR_RETURN(const uint8_t value, cursor.Number<uint8_t>());
  if (value > 1) {
    return absl::InvalidArgumentError(absl::StrCat("boolean of value ", int{value}));
  }
  return value == 1;
}

template <typename T>
absl::StatusOr<GgufValue> ReadNumbers(GgufCursor& cursor, uint64_t count) {
  std::vector<Widened<T>> values;
  values.reserve(count);
  for (uint64_t i = 0; i < count; ++i) {
    ASSIGN_OR_RETURN(const T value, cursor.Number<T>());
    values.push_back(static_cast<Widened<T>>(value));
  }
  return GgufValue(std::move(values));
}

absl::StatusOr<GgufValue> ReadBools(GgufCursor& cursor, uint64_t count) {
  std::vector<bool> values;
  for (uint64_t i = 0; i < count; ++i) {
    ASSIGN_OR_RETURN(const bool value, ReadBool(cursor));
    values.push_back(value);
  }
  return GgufValue(std::move(values));
}

absl::StatusOr<GgufValue> ReadStrings(GgufCursor& cursor, uint64_t count) {
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

absl::StatusOr<GgufValue> ReadArray(GgufCursor& cursor) {
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

}  // namespace

absl::StatusOr<GgufValue> ReadGgufValue(GgufCursor& cursor) {
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

}  // namespace krait
