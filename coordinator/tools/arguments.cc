#include "coordinator/tools/arguments.h"

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/strings.h"

namespace krait {
namespace {

const FlagSpec* FindSpec(absl::Span<const FlagSpec> specs, std::string_view name) {
  for (const FlagSpec& spec : specs) {
    if (name == spec.name) return &spec;
  }
  return nullptr;
}

template <typename T, typename Convert>
absl::StatusOr<std::optional<T>> Number(const Arguments& arguments, std::string_view name,
                                        const char* what, Convert convert) {
  if (!arguments.Has(name)) return std::optional<T>();
  const std::string text = arguments.Get(name);
  T value{};
  if (convert(text, &value)) return std::optional<T>(value);
  return absl::InvalidArgumentError(
      absl::StrCat("--", ToAbsl(name), ": want ", what, ", got \"", text, "\""));
}

}  // namespace

absl::StatusOr<Arguments> Arguments::Parse(absl::Span<const std::string> words,
                                           absl::Span<const FlagSpec> specs) {
  Arguments arguments;
  for (size_t i = 0; i < words.size(); ++i) {
    if (!absl::StartsWith(words[i], "--")) {
      return absl::InvalidArgumentError(absl::StrCat("unexpected argument \"", words[i], "\""));
    }
    const size_t equals = words[i].find('=');
    const bool joined = equals != std::string::npos;
    const std::string name = words[i].substr(2, joined ? equals - 2 : equals);
    const FlagSpec* spec = FindSpec(specs, name);
    if (spec == nullptr) return absl::InvalidArgumentError(absl::StrCat("unknown flag --", name));
    if (spec->value == nullptr) {
      if (joined) return absl::InvalidArgumentError(absl::StrCat("--", name, " takes no value"));
      arguments.given_.push_back({name, ""});
    } else if (joined) {
      arguments.given_.push_back({name, words[i].substr(equals + 1)});
    } else if (++i < words.size()) {
      arguments.given_.push_back({name, words[i]});
    } else {
      return absl::InvalidArgumentError(absl::StrCat("--", name, " needs a value"));
    }
  }
  return arguments;
}

const Arguments::Given* Arguments::Find(std::string_view name) const {
  const Given* found = nullptr;
  for (const Given& given : given_) {
    if (given.name == name) found = &given;
  }
  return found;
}

std::string Arguments::Get(std::string_view name, std::string_view default_value) const {
  const Given* found = Find(name);
  return found == nullptr ? std::string(default_value) : found->value;
}

std::vector<std::string> Arguments::All(std::string_view name) const {
  std::vector<std::string> all;
  for (const Given& given : given_) {
    if (given.name == name) all.push_back(given.value);
  }
  return all;
}

absl::StatusOr<std::optional<int64_t>> Arguments::GetInt(std::string_view name) const {
  return Number<int64_t>(*this, name, "an integer", [](const std::string& text, int64_t* value) {
    return absl::SimpleAtoi(text, value);
  });
}

absl::StatusOr<std::optional<uint64_t>> Arguments::GetUint(std::string_view name) const {
  return Number<uint64_t>(
      *this, name, "an integer of at least 0",
      [](const std::string& text, uint64_t* value) { return absl::SimpleAtoi(text, value); });
}

absl::StatusOr<std::optional<double>> Arguments::GetDouble(std::string_view name) const {
  return Number<double>(*this, name, "a number", [](const std::string& text, double* value) {
    return absl::SimpleAtod(text, value);
  });
}

std::string FormatHelp(std::string_view command, std::string_view summary,
                       absl::Span<const FlagSpec> specs) {
  std::string help =
      absl::StrCat("usage: krait ", ToAbsl(command), " [flags]\n", ToAbsl(summary), "\n");
  for (const FlagSpec& spec : specs) {
    const std::string left = absl::StrCat("--", spec.name, spec.value == nullptr ? "" : " ",
                                          spec.value == nullptr ? "" : spec.value);
    absl::StrAppend(&help, absl::StrFormat("  %-28s %s\n", left, spec.help));
  }
  return help;
}

}  // namespace krait
