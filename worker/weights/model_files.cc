#include "worker/weights/model_files.h"

#include <algorithm>
#include <filesystem>
#include <system_error>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace krait {
namespace {

namespace fs = std::filesystem;

absl::Status Bad(const std::string& path, std::string_view reason) {
  return absl::InvalidArgumentError(absl::StrCat(path, ": ", std::string(reason)));
}

std::vector<std::string> FilesEndingIn(const std::string& directory, const char* suffix,
                                       std::error_code& error) {
  std::vector<std::string> paths;
  for (fs::directory_iterator it(directory, error), end; !error && it != end; it.increment(error)) {
    const std::string path = it->path().string();
    if (absl::EndsWith(path, suffix)) paths.push_back(path);
  }
  std::sort(paths.begin(), paths.end());
  return paths;
}

absl::StatusOr<ModelFiles> FromFolder(const std::string& directory) {
  std::error_code error;
  ModelFiles files;
  files.directory = directory;
  const std::vector<std::string> ggufs = FilesEndingIn(directory, ".gguf", error);
  if (!error) files.shards = FilesEndingIn(directory, ".safetensors", error);
  if (error) return Bad(directory, absl::StrCat("cannot be listed: ", error.message()));
  if (!ggufs.empty() && !files.shards.empty()) {
    return Bad(directory, "holds both GGUF and safetensors files; name the GGUF file");
  }
  if (ggufs.size() > 1) return Bad(directory, "holds several GGUF files; name one");
  if (ggufs.size() == 1) {
    files.gguf = ggufs[0];
    return files;
  }
  if (files.shards.empty()) {
    return Bad(directory, "holds neither a GGUF nor a safetensors file (pickles are not read)");
  }
  files.config_json = (fs::path(directory) / "config.json").string();
  if (!fs::exists(files.config_json, error)) return Bad(files.config_json, "missing");
  const std::string mamba = (fs::path(directory) / "mamba_config.json").string();
  if (fs::exists(mamba, error)) files.mamba_config_json = mamba;
  const std::string index = (fs::path(directory) / "model.safetensors.index.json").string();
  if (fs::exists(index, error)) files.index_json = index;
  if (files.shards.size() > 1 && files.index_json.empty()) return Bad(index, "missing");
  return files;
}

}  // namespace

absl::StatusOr<ModelFiles> ModelFiles::Find(const std::string& path) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (!fs::exists(status)) return absl::NotFoundError(absl::StrCat(path, ": does not exist"));
  if (fs::is_directory(status)) return FromFolder(path);
  if (!absl::EndsWith(path, ".gguf")) {
    return Bad(path, "neither a folder nor a .gguf file (for safetensors, name the folder)");
  }
  ModelFiles files;
  files.gguf = path;
  files.directory = fs::path(path).has_parent_path() ? fs::path(path).parent_path().string() : ".";
  return files;
}

}  // namespace krait
