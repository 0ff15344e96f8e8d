#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace krait {

// Which files a model path means: a .gguf file, a folder with exactly one of them, or a Hugging
// Face folder.
struct ModelFiles {
  std::string directory;            // of the model; of the file, if a file was given
  std::string gguf;                 // path, empty for safetensors
  std::string config_json;          // path, empty for GGUF
  std::string mamba_config_json;    // path of a hybrid's second configuration, empty without
  std::vector<std::string> shards;  // safetensors paths, sorted; empty for GGUF
  std::string index_json;           // path if the folder has an index, else empty

  bool is_gguf() const { return !gguf.empty(); }

  // NOT_FOUND if `path` does not exist; INVALID_ARGUMENT names it and what is missing or ambiguous
  // (pickles, for example, are never read).
  static absl::StatusOr<ModelFiles> Find(const std::string& path);
};

}  // namespace krait
