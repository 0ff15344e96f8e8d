#include "worker/tools/command_line.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/build_info.h"

namespace krait {
namespace {

bool IsOneOf(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

struct Split {
  std::string name;
  std::optional<std::string> value;
};

Split SplitOption(const std::string& word) {
  const size_t equals = word.find('=');
  if (equals == std::string::npos) return {word.substr(2), std::nullopt};
  return {word.substr(2, equals - 2), word.substr(equals + 1)};
}

absl::Status Usage(const std::string& name, const char* what) {
  return absl::InvalidArgumentError(absl::StrCat("--", name, ": ", what));
}

}  // namespace

absl::StatusOr<CommandLine> ParseCommandLine(int argc, char** argv,
                                             const std::vector<std::string>& options,
                                             const std::vector<std::string>& switches) {
  CommandLine line;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (!absl::StartsWith(word, "--")) {
      line.words.push_back(word);
      continue;
    }
    Split option = SplitOption(word);
    if (IsOneOf(switches, option.name)) {
      if (option.value) return Usage(option.name, "takes no value");
      line.switches[option.name] = true;
      continue;
    }
    if (!IsOneOf(options, option.name)) return Usage(option.name, "unknown option");
    if (!option.value && i + 1 == argc) return Usage(option.name, "needs a value");
    if (!option.value) option.value = argv[++i];
    if (!line.values.emplace(option.name, *option.value).second) {
      return Usage(option.name, "given twice");
    }
  }
  return line;
}

int ExitCodeFor(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kOk:
      return 0;
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kNotFound:
    case absl::StatusCode::kDataLoss:
    case absl::StatusCode::kUnimplemented:
      return kExitBadModel;
    case absl::StatusCode::kUnavailable:
      return kExitUnavailable;
    default:
      return kExitInternal;
  }
}

}  // namespace krait
