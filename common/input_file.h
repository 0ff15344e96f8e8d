#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace krait {

// A regular file that is read into owned memory. Never mapped: a file that shrinks under a mapping
// ends the process with SIGBUS, here it is a Status. ReadAt may be called from any thread.
class InputFile {
 public:
  // NOT_FOUND if it cannot be opened, INVALID_ARGUMENT if it is no regular file; both name `path`.
  static absl::StatusOr<InputFile> Open(const std::string& path);
  InputFile(InputFile&& other) noexcept;
  InputFile& operator=(InputFile&& other) noexcept;
  ~InputFile();

  const std::string& path() const { return path_; }
  uint64_t size() const { return size_; }  // when it was opened

  // Fills `out` from `offset`. DATA_LOSS names file and offset if the file ends before; UNAVAILABLE
  // if the device fails.
  absl::Status ReadAt(uint64_t offset, absl::Span<char> out) const;

 private:
  InputFile(std::string path, int fd, uint64_t size);

  std::string path_;
  int fd_ = -1;
  uint64_t size_ = 0;
};

// The whole file. INVALID_ARGUMENT if it is larger than `max_bytes`; else as InputFile.
absl::StatusOr<std::string> ReadWholeFile(const std::string& path, uint64_t max_bytes);

}  // namespace krait
