#include "common/gguf_reader.h"

#include <bit>
#include <cstring>
#include <set>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/gguf_cursor.h"
#include "common/input_file.h"
#include "common/status_macros.h"
#include "common/strings.h"

namespace krait {
namespace {

constexpr uint64_t kMaxKeys = 1 << 16;
constexpr uint64_t kMaxKeyBytes = 65535;
constexpr uint64_t kMaxTensors = 1 << 20;
constexpr uint64_t kMaxTensorNameBytes = 512;

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

absl::StatusOr<Preamble> ReadPreamble(GgufCursor& cursor) {
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

absl::Status ReadMetadata(const std::string& path, GgufCursor& cursor, uint64_t num_keys,
                          Metadata& metadata) {
  for (uint64_t i = 0; i < num_keys; ++i) {
    absl::StatusOr<std::string> key = cursor.String(kMaxKeyBytes);
    if (!key.ok()) {
      return AtFile(path, absl::InvalidArgumentError(
                              absl::StrCat("metadata key ", i, ": ", key.status().message())));
    }
    absl::StatusOr<GgufValue> value = ReadGgufValue(cursor);
    if (!value.ok()) return AtKey(path, *key, std::string(value.status().message()));
    if (!metadata.emplace(*key, *std::move(value)).second) {
      return AtKey(path, *key, "duplicate metadata key");
    }
  }
  return absl::OkStatus();
}

absl::Status ReadTensorTable(const std::string& path, GgufCursor& cursor, uint64_t num_tensors,
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
    absl::StatusOr<GgufTensorInfo> tensor = ReadGgufTensorInfo(cursor);
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
  GgufCursor cursor(file);
  const absl::StatusOr<Preamble> preamble = ReadPreamble(cursor);
  if (!preamble.ok()) return AtFile(path, preamble.status());
  GgufHeader header;
  header.path_ = path;
  RETURN_IF_ERROR(ReadMetadata(path, cursor, preamble->num_keys, header.metadata_));
  RETURN_IF_ERROR(ReadTensorTable(path, cursor, preamble->num_tensors, header.tensors_));
  ASSIGN_OR_RETURN(const uint64_t alignment, AlignmentOf(header));
  const uint64_t data_start = (cursor.position() + alignment - 1) / alignment * alignment;
  for (GgufTensorInfo& tensor : header.tensors_) {
    const absl::Status placed = PlaceGgufTensor(data_start, alignment, file.size(), tensor);
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
