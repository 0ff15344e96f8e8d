#pragma once

// Reads the header of a GGUF file, version 2 or 3 (https://github.com/ggml-org/ggml, docs/gguf.md):
// metadata and tensor table, bounded before anything is allocated. The tensors' block formats are
// decoded in worker/weights/gguf_tensors.

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "common/gguf_tensor_info.h"
#include "common/gguf_value.h"

namespace krait {

class GgufHeader {
 public:
  // Reads and checks `path`. INVALID_ARGUMENT names the file and the reason (and tensor or key);
  // NOT_FOUND if it cannot be opened. After success every tensor lies inside the file, aligned, and
  // no two overlap.
  static absl::StatusOr<GgufHeader> Read(const std::string& path);

  const std::string& path() const { return path_; }
  const std::map<std::string, GgufValue, std::less<>>& metadata() const { return metadata_; }
  const std::vector<GgufTensorInfo>& tensors() const { return tensors_; }

  // The value of `key` if it is present and of the asked kind; INVALID_ARGUMENT names file and key.
  absl::StatusOr<int64_t> GetInt(std::string_view key) const;
  absl::StatusOr<double> GetFloat(std::string_view key) const;
  absl::StatusOr<std::string> GetString(std::string_view key) const;
  absl::StatusOr<bool> GetBool(std::string_view key) const;
  bool Has(std::string_view key) const { return metadata_.find(key) != metadata_.end(); }
  // Null if absent or of another kind.
  const std::vector<std::string>* FindStrings(std::string_view key) const;
  // Widened copy of an integer or float array; empty if absent.
  std::vector<int64_t> GetInts(std::string_view key) const;
  std::vector<double> GetFloats(std::string_view key) const;

 private:
  std::string path_;
  std::map<std::string, GgufValue, std::less<>> metadata_;
  std::vector<GgufTensorInfo> tensors_;
};

}  // namespace krait
