#include <unistd.h>

#include <cstdio>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/build_info.h"
#include "common/status_macros.h"
#include "worker/tools/command_line.h"
#include "worker/tools/convert.h"

namespace krait {
namespace {

constexpr char kUsage[] =
    "usage: krait-engine convert --in PATH --out DIR [--layers 0,10,29] [--dtype f32|bf16|f16]\n"
    "  --in      a .gguf file, or a folder with one or with Hugging Face files\n"
    "  --out     the Hugging Face folder to make; it may not hold anything yet\n"
    "  --layers  keep these layers only, renumbered: a fast, rough draft of the model\n"
    "  --dtype   default f32, which loses nothing\n";

absl::StatusOr<std::vector<int64_t>> ParseLayers(const std::string& text) {
  std::vector<int64_t> layers;
  for (const absl::string_view word : absl::StrSplit(text, ',')) {
    int64_t layer = 0;
    if (!absl::SimpleAtoi(word, &layer)) {
      return absl::InvalidArgumentError(absl::StrCat("--layers: \"", word, "\" is no number"));
    }
    layers.push_back(layer);
  }
  return layers;
}

absl::StatusOr<DType> ParseDtype(const std::string& text) {
  for (DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
    if (text == Name(dtype)) return dtype;
  }
  return absl::InvalidArgumentError(absl::StrCat("--dtype: f32, bf16 or f16 wanted, got ", text));
}

absl::StatusOr<ConvertOptions> ParseOptions(const CommandLine& line) {
  if (!line.words.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(line.words[0], ": unknown argument"));
  }
  if (!line.Has("in") || !line.Has("out") || line.values.at("out").empty()) {
    return absl::InvalidArgumentError("--in and --out are needed");
  }
  ConvertOptions options;
  options.in = line.values.at("in");
  options.out = line.values.at("out");
  if (line.Has("layers")) {
    ASSIGN_OR_RETURN(options.layers, ParseLayers(line.values.at("layers")));
  }
  if (line.Has("dtype")) {
    ASSIGN_OR_RETURN(options.dtype, ParseDtype(line.values.at("dtype")));
  }
  return options;
}

void ShowProgress(int64_t bytes, int64_t total) {
  std::fprintf(stderr, "\rconvert: %lld of %lld MiB", static_cast<long long>(bytes >> 20),
               static_cast<long long>(total >> 20));
  if (bytes == total) std::fputc('\n', stderr);
}

int UsageError(const absl::Status& status) {
  std::fprintf(stderr, "%s\n%s", std::string(status.message()).c_str(), kUsage);
  return kExitUsage;
}

}  // namespace

int RunConvert(int argc, char** argv) {
  const absl::StatusOr<CommandLine> line =
      ParseCommandLine(argc, argv, {"in", "out", "layers", "dtype"}, {"help"});
  if (!line.ok()) return UsageError(line.status());
  if (line->Switched("help")) {
    std::fputs(kUsage, stdout);
    return 0;
  }
  absl::StatusOr<ConvertOptions> options = ParseOptions(*line);
  if (!options.ok()) return UsageError(options.status());
  if (isatty(STDERR_FILENO)) options->progress = &ShowProgress;
  const absl::Status status = ConvertModel(*options);
  if (status.ok()) return 0;
  std::fprintf(stderr, "%s\n", std::string(status.message()).c_str());
  const bool misuse = absl::IsAlreadyExists(status) || absl::IsOutOfRange(status);
  return misuse ? kExitUsage : ExitCodeFor(status);
}

}  // namespace krait
