#include "worker/weights/safetensors_file.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/json.h"
#include "common/status_macros.h"

namespace krait {
namespace {

static_assert(std::endian::native == std::endian::little);

constexpr uint64_t kMaxHeaderBytes = 100'000'000;
constexpr uint64_t kSmallHeaderBytes = 1 << 20;
constexpr size_t kMaxTensors = 1'000'000;
constexpr size_t kMaxNameBytes = 512;
constexpr size_t kMaxRank = 8;

absl::Status Bad(const std::string& reason) { return absl::InvalidArgumentError(reason); }

absl::StatusOr<std::string> ReadHeaderText(const InputFile& file) {
  if (file.size() < 8) return Bad(absl::StrCat(file.size(), " bytes are no safetensors file"));
  uint64_t size = 0;
  RETURN_IF_ERROR(file.ReadAt(0, absl::MakeSpan(reinterpret_cast<char*>(&size), sizeof(size))));
  if (size > kMaxHeaderBytes || size > file.size() - 8) {
    return Bad(absl::StrCat("header of ", size, " bytes in a file of ", file.size()));
  }
  if (size > kSmallHeaderBytes && size > file.size() / 4) {
    return Bad(absl::StrCat("header of ", size, " bytes is more than a quarter of the file"));
  }
  std::string text(size, '\0');
  RETURN_IF_ERROR(file.ReadAt(8, absl::MakeSpan(text.data(), text.size())));
  return text;
}

absl::StatusOr<JsonValue> ParseHeader(const std::string& text) {
  const size_t first = text.find_first_not_of(" \t\n\r");
  const size_t last = text.find_last_not_of(' ');
  if (first == std::string::npos || text[first] != '{' || text[last] != '}') {
    return Bad("the header is no JSON object, padded with spaces only");
  }
  JsonLimits limits;
  limits.max_bytes = kMaxHeaderBytes;
  limits.max_depth = 4;
  return ParseJson(text, limits);
}

absl::Status CheckMetadata(const JsonValue& metadata) {
  if (!metadata.is_object()) return Bad("__metadata__ is no object");
  for (const auto& [key, value] : metadata.as_object()) {
    if (!value.is_string()) return Bad(absl::StrCat("__metadata__: ", key, " is no string"));
  }
  return absl::OkStatus();
}

// A list of integers, none negative.
absl::StatusOr<std::vector<int64_t>> Integers(const JsonValue& row, const char* key) {
  const JsonValue* list = row.Find(key);
  if (list == nullptr || !list->is_array()) return Bad(absl::StrCat(key, " is no list"));
  std::vector<int64_t> values;
  for (const JsonValue& value : list->as_array()) {
    if (!value.is_integer() || value.as_double() >= 0x1p63 || value.as_int() < 0) {
      return Bad(absl::StrCat(key, " holds something else than integers in [0, 2^63)"));
    }
    values.push_back(value.as_int());
  }
  return values;
}

absl::StatusOr<uint64_t> CheckedBytes(const StorageType& type, const std::vector<int64_t>& shape) {
  uint64_t bytes = static_cast<uint64_t>(type.block_bytes);
  for (int64_t dim : shape) {
    if (__builtin_mul_overflow(bytes, static_cast<uint64_t>(dim), &bytes)) {
      return Bad(absl::StrCat("shape [", absl::StrJoin(shape, ", "), "] overflows"));
    }
  }
  return bytes;
}

absl::Status CheckKeys(const JsonObject& row) {
  for (const auto& [key, value] : row) {
    if (key != "dtype" && key != "shape" && key != "data_offsets") {
      return Bad(absl::StrCat("unknown field ", QuoteJson(key)));
    }
  }
  return absl::OkStatus();
}

// Offsets are still relative to the data section.
absl::StatusOr<SafetensorsTensor> ParseTensor(const std::string& name, const JsonValue& row) {
  SafetensorsTensor tensor;
  tensor.name = name;
  if (!row.is_object()) return Bad("its entry is no object");
  RETURN_IF_ERROR(CheckKeys(row.as_object()));
  ASSIGN_OR_RETURN(const std::string dtype, row.GetString("dtype"));
  tensor.type = StorageTypeFromSafetensors(dtype);
  if (tensor.type == nullptr) return Bad(absl::StrCat("unknown dtype ", QuoteJson(dtype)));
  ASSIGN_OR_RETURN(tensor.shape, Integers(row, "shape"));
  if (tensor.shape.size() > kMaxRank) {
    return Bad(absl::StrCat(tensor.shape.size(), " dimensions, the limit is ", kMaxRank));
  }
  ASSIGN_OR_RETURN(const std::vector<int64_t> offsets, Integers(row, "data_offsets"));
  if (offsets.size() != 2 || offsets[1] < offsets[0]) {
    return Bad("data_offsets are no begin and end");
  }
  ASSIGN_OR_RETURN(tensor.num_bytes, CheckedBytes(*tensor.type, tensor.shape));
  tensor.offset = static_cast<uint64_t>(offsets[0]);
  if (static_cast<uint64_t>(offsets[1] - offsets[0]) != tensor.num_bytes) {
    return Bad(absl::StrCat("data_offsets span ", offsets[1] - offsets[0],
                            " bytes, dtype and shape ", "need ", tensor.num_bytes));
  }
  return tensor;
}

absl::StatusOr<std::vector<SafetensorsTensor>> ParseTensors(const JsonValue& header) {
  std::vector<SafetensorsTensor> tensors;
  if (header.as_object().size() > kMaxTensors) {
    return Bad(absl::StrCat(header.as_object().size(), " entries, the limit is ", kMaxTensors));
  }
  for (const auto& [name, row] : header.as_object()) {
    if (name == "__metadata__") {
      RETURN_IF_ERROR(CheckMetadata(row));
      continue;
    }
    if (name.size() > kMaxNameBytes) {
      return Bad(absl::StrCat("a tensor's name has ", name.size(), " bytes, the limit is ",
                              kMaxNameBytes));
    }
    absl::StatusOr<SafetensorsTensor> tensor = ParseTensor(name, row);
    if (!tensor.ok()) return Bad(absl::StrCat("tensor ", name, ": ", tensor.status().message()));
    tensors.push_back(*std::move(tensor));
  }
  return tensors;
}

// Sorts by place, checks that the tensors fill the data section, and makes offsets absolute.
absl::Status Place(std::vector<SafetensorsTensor>& tensors, uint64_t data_start,
                   uint64_t file_size) {
  std::sort(tensors.begin(), tensors.end(), [](const auto& a, const auto& b) {
    return std::pair(a.offset, a.num_bytes) < std::pair(b.offset, b.num_bytes);
  });
  uint64_t end = 0;
  for (SafetensorsTensor& tensor : tensors) {
    if (tensor.offset != end) {
      return Bad(absl::StrCat("tensor ", tensor.name, ": ",
                              tensor.offset < end ? "overlaps the tensor before it, which ends"
                                                  : "leaves a hole after the tensor that ends",
                              " at ", end, ": it begins at ", tensor.offset));
    }
    end += tensor.num_bytes;
    if (end > file_size - data_start) {
      return Bad(absl::StrCat("tensor ", tensor.name, ": ends at byte ", data_start + end,
                              " of a file of ", file_size));
    }
    tensor.offset += data_start;
  }
  if (data_start + end == file_size) return absl::OkStatus();
  return Bad(absl::StrCat(file_size - data_start - end, " bytes follow the last tensor"));
}

absl::StatusOr<std::vector<SafetensorsTensor>> ReadHeader(const InputFile& file) {
  ASSIGN_OR_RETURN(const std::string text, ReadHeaderText(file));
  ASSIGN_OR_RETURN(const JsonValue header, ParseHeader(text));
  ASSIGN_OR_RETURN(std::vector<SafetensorsTensor> tensors, ParseTensors(header));
  RETURN_IF_ERROR(Place(tensors, 8 + text.size(), file.size()));
  return tensors;
}

}  // namespace

absl::StatusOr<std::vector<SafetensorsTensor>> ReadSafetensorsHeader(const InputFile& file) {
  absl::StatusOr<std::vector<SafetensorsTensor>> tensors = ReadHeader(file);
  if (tensors.ok()) return tensors;
  return absl::Status(tensors.status().code(),
                      absl::StrCat(file.path(), ": ", tensors.status().message()));
}

}  // namespace krait
