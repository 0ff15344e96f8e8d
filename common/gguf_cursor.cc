#include "common/gguf_cursor.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "absl/strings/str_cat.h"

namespace krait {
namespace {

static_assert(std::endian::native == std::endian::little, "GGUF is read as it lies in the file");

constexpr uint64_t kMaxHeaderBytes = uint64_t{256} << 20;
constexpr uint64_t kBufferBytes = 1 << 16;

}  // namespace

absl::Status GgufCursor::Read(void* out, uint64_t size) {
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

absl::StatusOr<std::string> GgufCursor::String(uint64_t max_bytes) {
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

absl::Status GgufCursor::Truncated(uint64_t size) const {
  return absl::InvalidArgumentError(
      absl::StrCat("the header wants ", size, " bytes at byte ", position_, " of ", file_.size()));
}

absl::Status GgufCursor::Refill() {
  if (position_ > kMaxHeaderBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("the header is longer than ", kMaxHeaderBytes, " bytes"));
  }
  buffer_start_ = position_;
  buffer_.resize(std::min<uint64_t>(left(), kBufferBytes));
  return file_.ReadAt(position_, absl::MakeSpan(buffer_));
}

}  // namespace krait
