#pragma once

#include <CLI/CLI.hpp>
#include <algorithm>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "common/subcommands.h"

namespace krait {

// Parses `words` as the options that `declare` adds; INVALID_ARGUMENT with CLI11's message.
template <typename Declare>
absl::Status ParseWords(std::vector<std::string> words, Declare declare) {
  CLI::App app;
  SetUpApp(app, "test");
  declare(app);
  std::reverse(words.begin(), words.end());  // CLI11 takes them from the back
  try {
    app.parse(words);
  } catch (const CLI::ParseError& error) {
    return absl::InvalidArgumentError(error.what());
  }
  return absl::OkStatus();
}

}  // namespace krait
