#include "worker/weights/safetensors_writer.h"

#include <fcntl.h>
#include <unistd.h>

#include <bit>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/json.h"
#include "common/logging.h"
#include "common/status_macros.h"
#include "kernels/core/bf16.h"
#include "worker/weights/f16.h"

namespace krait {
namespace {

static_assert(std::endian::native == std::endian::little);

const char* SafetensorsName(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return "F32";
    case DType::kBF16:
      return "BF16";
    case DType::kF16:
      return "F16";
    case DType::kI32:
      return "I32";
    case DType::kI64:
      return "I64";
    case DType::kU8:
      return "U8";
  }
  return "?";
}

uint64_t BytesOf(const SafetensorsEntry& entry) {
  int64_t elements = 1;
  for (int64_t dim : entry.shape) elements *= dim;
  return static_cast<uint64_t>(elements * ByteSize(entry.dtype));
}

// Length and JSON text, padded with spaces so that the data begins at a multiple of 64 bytes.
std::string HeaderBytes(const std::vector<SafetensorsEntry>& entries) {
  std::string json = R"({"__metadata__":{"format":"pt"})";
  uint64_t begin = 0;
  for (const SafetensorsEntry& entry : entries) {
    const uint64_t end = begin + BytesOf(entry);
    absl::StrAppend(&json, ",", QuoteJson(entry.name), R"(:{"dtype":")",
                    SafetensorsName(entry.dtype), R"(","shape":[)", absl::StrJoin(entry.shape, ","),
                    R"(],"data_offsets":[)", begin, ",", end, "]}");
    begin = end;
  }
  json += "}";
  json.resize((json.size() + 8 + 63) / 64 * 64 - 8, ' ');
  const uint64_t size = json.size();
  return std::string(reinterpret_cast<const char*>(&size), 8) + json;
}

absl::Status DiskError(const std::string& path, const char* what) {
  return absl::UnavailableError(absl::StrCat(path, ": ", what, ": ", std::strerror(errno)));
}

}  // namespace

SafetensorsWriter::SafetensorsWriter(std::string path, int fd, uint64_t bytes_left)
    : path_(std::move(path)), fd_(fd), bytes_left_(bytes_left) {}

SafetensorsWriter::SafetensorsWriter(SafetensorsWriter&& other) noexcept
    : path_(std::move(other.path_)),
      fd_(std::exchange(other.fd_, -1)),
      bytes_left_(other.bytes_left_) {}

SafetensorsWriter::~SafetensorsWriter() {
  if (fd_ >= 0) close(fd_);
}

absl::StatusOr<SafetensorsWriter> SafetensorsWriter::Create(const std::string& path,
                                                            std::vector<SafetensorsEntry> entries) {
  const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
  if (fd < 0 && errno == EEXIST) return absl::AlreadyExistsError(absl::StrCat(path, ": exists"));
  if (fd < 0) return DiskError(path, "create");
  const std::string header = HeaderBytes(entries);
  uint64_t total = header.size();
  for (const SafetensorsEntry& entry : entries) total += BytesOf(entry);
  SafetensorsWriter writer(path, fd, total);
  RETURN_IF_ERROR(writer.Append(header));
  return writer;
}

absl::Status SafetensorsWriter::Append(std::string_view bytes) {
  CHECK_LE(bytes.size(), bytes_left_) << path_;
  bytes_left_ -= bytes.size();
  while (!bytes.empty()) {
    const ssize_t written = write(fd_, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return DiskError(path_, "write");
    bytes.remove_prefix(static_cast<size_t>(written));
  }
  return absl::OkStatus();
}

absl::Status SafetensorsWriter::AppendFloats(DType dtype, absl::Span<const float> values) {
  if (dtype == DType::kF32) {
    return Append({reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)});
  }
  CHECK(dtype == DType::kBF16 || dtype == DType::kF16) << Name(dtype);
  std::vector<uint16_t> halves(values.size());
  for (size_t i = 0; i < values.size(); ++i) {
    halves[i] = dtype == DType::kBF16 ? ToBf16(values[i]) : ToF16(values[i]);
  }
  return Append({reinterpret_cast<const char*>(halves.data()), halves.size() * 2});
}

absl::Status SafetensorsWriter::Finish() {
  CHECK_EQ(bytes_left_, 0u) << path_;
  if (fsync(fd_) != 0) return DiskError(path_, "fsync");
  if (close(std::exchange(fd_, -1)) != 0) return DiskError(path_, "close");
  return absl::OkStatus();
}

}  // namespace krait
