#include <unistd.h>

#include <cstdio>
#include <memory>

#include "common/build_info.h"
#include "worker/tools/convert.h"
#include "worker/tools/engine_tool.h"

namespace krait {
namespace {

constexpr DType kDtypes[] = {DType::kF32, DType::kBF16, DType::kF16};

void SetDtype(const std::string& text, ConvertOptions& options) {
  for (const DType dtype : kDtypes) {
    if (text == Name(dtype)) options.dtype = dtype;
  }
}

void ShowProgress(int64_t bytes, int64_t total) {
  std::fprintf(stderr, "\rconvert: %lld of %lld MiB", static_cast<long long>(bytes >> 20),
               static_cast<long long>(total >> 20));
  if (bytes == total) std::fputc('\n', stderr);
}

int Convert(ConvertOptions options) {
  if (isatty(STDERR_FILENO)) options.progress = &ShowProgress;
  const absl::Status status = ConvertModel(options);
  const int code = EndCommand(status);
  const bool misuse = absl::IsAlreadyExists(status) || absl::IsOutOfRange(status);
  return misuse ? kExitUsage : code;
}

}  // namespace

std::function<int()> DeclareConvert(CLI::App& app) {
  const auto options = std::make_shared<ConvertOptions>();
  app.add_option("--in,--base", options->in,
                 "a .gguf file, or a folder with one or with Hugging Face files")
      ->type_name("PATH")
      ->required();
  app.add_option("--out,out", options->out,
                 "the Hugging Face folder to make; it may not hold anything yet")
      ->type_name("DIR")
      ->required()
      ->check([](const std::string& path) { return path.empty() ? "may not be empty" : ""; }, "");
  CLI::Option* overlay =
      app.add_option("--overlay", options->overlay,
                     "a .gguf file with a hybrid's mixers or a draft, made for this base")
          ->type_name("PATH");
  app.add_option_function<std::vector<int64_t>>(
         "--layers", [options](const std::vector<int64_t>& layers) { options->layers = layers; },
         "keep these layers only, renumbered: a fast, rough draft of the model: 0,10,29")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->excludes(overlay)
      ->type_name("LIST");
  app.add_option_function<std::string>(
         "--dtype", [options](const std::string& text) { SetDtype(text, *options); },
         "default f32, which loses nothing")
      ->check(CLI::IsMember({"f32", "bf16", "f16"}));
  return [options] { return Convert(*options); };
}

}  // namespace krait
