#include "tests/e2e/models.h"

#include <stdlib.h>

#include <filesystem>

#include "absl/strings/str_cat.h"
#include "common/logging.h"
#include "tests/e2e/process.h"
#include "tests/support/hybrid_checkpoint.h"
#include "tests/support/overflow_model.h"
#include "tests/support/tiny_checkpoint.h"

namespace krait {
namespace {

testing::TinyModelOptions TargetOptions() {
  testing::TinyModelOptions options;
  options.num_layers = 6;
  options.num_heads = 9;
  options.num_kv_heads = 3;
  options.head_dim = 16;
  options.intermediate_size = 384;
  options.max_context_tokens = 2048;
  return options;
}

// Removed when the process ends.
const std::string& ModelRoot() {
  struct Folder {
    Folder() {
      path = std::filesystem::temp_directory_path().string() + "/krait-models-XXXXXX";
      CHECK(mkdtemp(path.data()) != nullptr) << path;
    }
    ~Folder() {
      std::error_code ignored;
      std::filesystem::remove_all(path, ignored);
    }
    std::string path;
  };
  static const Folder folder;
  return folder.path;
}

std::string WriteFolder(const testing::TinyModel& model, const std::string& name) {
  const std::string dir = absl::StrCat(ModelRoot(), "/", name);
  CHECK_OK(testing::WriteTinyFolder(model, dir));
  return dir;
}

// Layers of `model`, cut out once a process.
std::string CutModel(const std::string& model, const std::string& layers, const std::string& name) {
  const std::string dir = absl::StrCat(ModelRoot(), "/", name);
  if (std::filesystem::exists(dir)) return dir;
  Process convert = Process::Start(
      {BinaryPath("krait-engine"), "convert", "--in", model, "--out", dir, "--layers", layers},
      absl::StrCat(ModelRoot(), "/convert.log"));
  CHECK_EQ(convert.Wait(absl::Seconds(60)).value_or(-1), 0) << convert.Log();
  return dir;
}

}  // namespace

const std::string& TargetModel() {
  static const std::string path = [] {
    const std::string file = absl::StrCat(ModelRoot(), "/target.gguf");
    CHECK_OK(testing::WriteTinyGguf(testing::MakeTinyModel(TargetOptions()), file));
    return file;
  }();
  return path;
}

const std::string& OverflowModel() {
  static const std::string path = [] {
    testing::TinyModel model = testing::MakeTinyModel(TargetOptions());
    testing::PlantOverflow(kOverflowToken, model);
    const std::string file = absl::StrCat(ModelRoot(), "/overflow.gguf");
    CHECK_OK(testing::WriteTinyGguf(model, file));
    return file;
  }();
  return path;
}

std::string DraftModel(const std::string& kind) {
  if (kind == "cut") return CutModel(TargetModel(), "0,2,5", "cut");
  testing::TinyModel model = testing::MakeTinyModel(TargetOptions());
  if (kind == "noisy") testing::AddNoise(model, 0.05f, 3);
  if (kind == "other_tokenizer") std::swap(model.vocabulary.merges[0], model.vocabulary.merges[1]);
  return WriteFolder(model, kind);
}

const std::string& HybridTargetModel() {
  static const std::string path = [] {
    const testing::HybridOptions options = testing::ServedHybridOptions();
    const std::string dir = absl::StrCat(ModelRoot(), "/hybrid");
    CHECK_OK(WriteHybridFolder(MakeHybridModel(options), options, dir));
    return dir;
  }();
  return path;
}

std::string HybridDraftModel(const std::string& kind) {
  if (kind == "cut") return CutModel(HybridTargetModel(), "0,2,5", "hybrid-cut");
  if (kind == "self") return HybridTargetModel();
  const testing::HybridOptions options = testing::ServedHybridOptions();
  testing::TinyModel model = MakeHybridModel(options);
  testing::AddNoise(model, 0.05f, 3);
  const std::string dir = absl::StrCat(ModelRoot(), "/hybrid-noisy");
  CHECK_OK(WriteHybridFolder(model, options, dir));
  return dir;
}

}  // namespace krait
