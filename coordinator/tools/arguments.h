#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace krait {

// One flag of a subcommand; its row in --help.
struct FlagSpec {
  const char* name;   // without dashes: "max-tokens"
  const char* value;  // what stands for the value in --help; nullptr: a switch
  const char* help;
};

// The flags of one call. "--name value" and "--name=value"; the last one counts, All has every one.
class Arguments {
 public:
  // INVALID_ARGUMENT names an unknown flag, a missing or unexpected value, or a stray word.
  static absl::StatusOr<Arguments> Parse(absl::Span<const std::string> words,
                                         absl::Span<const FlagSpec> specs);

  bool Has(std::string_view name) const { return Find(name) != nullptr; }
  std::string Get(std::string_view name, std::string_view default_value = "") const;
  std::vector<std::string> All(std::string_view name) const;
  // The value as a number; empty if the flag is absent. INVALID_ARGUMENT names flag and value.
  absl::StatusOr<std::optional<int64_t>> GetInt(std::string_view name) const;
  absl::StatusOr<std::optional<uint64_t>> GetUint(std::string_view name) const;
  absl::StatusOr<std::optional<double>> GetDouble(std::string_view name) const;

 private:
  struct Given {
    std::string name;
    std::string value;
  };
  const Given* Find(std::string_view name) const;

  std::vector<Given> given_;
};

// "usage: krait <command> [flags]", the summary, and one row a flag.
std::string FormatHelp(std::string_view command, std::string_view summary,
                       absl::Span<const FlagSpec> specs);

}  // namespace krait
